"""Key rings as the environment wants them: which fetcher, which ages, which file."""

import hashlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from authz_service.config import Config
from authz_service.issuers import TrustedIssuer
from authz_service.keys.discovery import DiscoveredSource
from authz_service.keys.fetch import Fetcher
from authz_service.keys.jwk import parse_key_set
from authz_service.keys.jwks import KeyObserver, KeyRing
from authz_service.keys.rings import KeyRings
from authz_service.keys.schedule import Timing
from authz_service.keys.snapshot import Snapshot
from authz_service.keys.source import KeySetSource


def key_rings(config: Config, observers: Iterable[KeyObserver]) -> KeyRings:
    """The rings, as yet of nobody."""
    timing = Timing(
        config.jwks_refresh_interval_seconds, config.jwks_max_stale_seconds, config.jwks_unknown_kid_cooldown_seconds
    )
    parse = partial(parse_key_set, algorithms=frozenset(config.algorithms))

    def open_ring(issuer: str, source: KeySetSource) -> KeyRing:
        return KeyRing(issuer, source, parse, timing, snapshot=_snapshot(config, issuer), observers=observers)

    return KeyRings(partial(key_set_source, timeout_seconds=config.jwks_fetch_timeout_seconds), open_ring)


def key_set_source(issuer: TrustedIssuer, timeout_seconds: float) -> KeySetSource:
    """Where an issuer's key set comes from.

    :param timeout_seconds: for each document: with discovery, there are two.
    """
    fetcher = partial(Fetcher, timeout_seconds=timeout_seconds)
    if issuer.discovery:
        return DiscoveredSource(issuer.issuer, fetcher(issuer.keys_url), fetcher)
    return fetcher(issuer.keys_url)


def snapshot_path(path: Path, issuer: str, issuer_of_environment: str) -> Path:
    """A file for each issuer: the path itself for the environment's, and one beside it for each other.

    Which one does not depend on who else is trusted, so that it is found again after any change of the policy.
    """
    if issuer == issuer_of_environment:
        return path
    return path.with_name(f"{path.name}.{hashlib.sha256(issuer.encode()).hexdigest()[:16]}")


def _snapshot(config: Config, issuer: str) -> Snapshot | None:
    if config.jwks_snapshot_path is None:
        return None
    return Snapshot(snapshot_path(config.jwks_snapshot_path, issuer, config.issuer), issuer)
