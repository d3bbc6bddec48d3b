"""The environment's settings reach the rings."""

from pathlib import Path

from authz_service.config import load_config
from authz_service.issuers import TrustedIssuer
from authz_service.keys.assembly import key_rings, key_set_source, snapshot_path
from authz_service.keys.discovery import DiscoveredSource
from authz_service.keys.fetch import Fetcher
from authz_service.keys.jwks import KeyRing
from authz_service.token.claims import ClaimRules

PATH = Path("/var/lib/authz/keys.json")
RULES = ClaimRules("http://a", frozenset({"chat-api"}), 30)


def test_the_issuer_of_the_environment_has_the_snapshot_path_itself() -> None:
    assert snapshot_path(PATH, "http://env", "http://env") == PATH


def test_each_other_issuer_has_a_file_of_its_own_beside_it() -> None:
    others = {snapshot_path(PATH, issuer, "http://env") for issuer in ("http://a", "http://a/", "https://a/../../b")}
    assert len(others) == 3
    assert all(path.parent == PATH.parent and path.name.startswith("keys.json.") for path in others)


def test_a_file_is_found_again_by_a_later_version() -> None:
    assert snapshot_path(PATH, "http://a", "http://env") == PATH.with_name("keys.json.54df484bb282e7e4")


def test_keys_are_fetched_where_they_are_or_where_the_issuer_says_that_they_are() -> None:
    direct = key_set_source(TrustedIssuer(RULES, "http://keys/"), 5)
    assert isinstance(direct, Fetcher)
    assert direct.url == "http://keys/"
    assert isinstance(key_set_source(TrustedIssuer(RULES, "http://keys/", discovery=True), 5), DiscoveredSource)


def test_without_a_snapshot_path_nothing_is_written() -> None:
    rings = key_rings(load_config({}), [])
    rings.use([TrustedIssuer(RULES, "http://keys/")])
    (ring,) = rings
    assert isinstance(ring, KeyRing)
    assert ring._snapshot is None
