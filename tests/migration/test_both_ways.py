"""What the configuration wants is built, and held to one policy; what it does not want is not there."""

import pytest

from authz_service.config import load_config
from authz_service.issuers import trusted_issuers
from authz_service.keys.assembly import key_rings
from authz_service.migration.asking import AskingWay
from authz_service.migration.both_ways import BothWays
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.transport.check import encode_identity
from authz_service.ways import LocalWay

POLICY = parse_policy("""
version: 1
rules:
  - {name: read, match: {path: /groups}, require: {permission: "groups:read"}}
  - {name: write, match: {path: /messages}, require: {permission: "messages:write"}}
""")
CHANGED = parse_policy("""
version: 1
defaults: {mode: shadow}
rules:
  - {name: read, match: {path: /groups}, require: {permission: "groups:list"}}
  - {name: write, match: {path: /messages}, require: {permission: "messages:write"}}
""")


def built(metrics: Metrics, **environ: str) -> BothWays:
    config = load_config(environ)
    return BothWays(config, POLICY, key_rings(config, []), metrics, encode_identity)


@pytest.mark.parametrize(("environ", "deciding", "witnesses"), [
    ({}, LocalWay, 0),
    ({"AUTHZ_COMPARE_SAMPLE": "0.5"}, LocalWay, 1),
    ({"USE_OAUTH2_AUTH": "false"}, AskingWay, 0),
    ({"USE_OAUTH2_AUTH": "false", "AUTHZ_COMPARE_SAMPLE": "0.5"}, AskingWay, 1),
], ids=repr)  # fmt: skip
def test_the_flags_say_which_way_decides_and_whether_it_is_compared(
    environ: dict[str, str], deciding: type, witnesses: int
) -> None:
    metrics = Metrics()
    both = built(metrics, **environ)
    assert isinstance(both.deciding, deciding)
    assert len(both.witnesses) == witnesses
    page = metrics.render().decode()
    assert ("authz_comparisons" in page) == (witnesses == 1)
    assert ("authz_auth_api_requests" in page) == (environ != {})


@pytest.mark.parametrize("flag", ["true", "false"])
def test_a_new_policy_is_every_way_s_and_ends_what_was_found_about_rules_that_changed(flag: str) -> None:
    metrics = Metrics()
    both = built(metrics, USE_OAUTH2_AUTH=flag, AUTHZ_COMPARE_SAMPLE="1")
    for rule in ("read", "write"):
        both._figures.compared(rule, "agree")
    both.use(CHANGED, trusted_issuers(load_config({}), CHANGED))
    assert {way.authorizer.policy.digest for way in both._ways} == {CHANGED.digest}
    page = metrics.render().decode()
    assert 'authz_comparisons_total{result="agree",rule="write"} 1.0' in page
    assert 'rule="read"' not in page


@pytest.mark.parametrize("flag", ["true", "false"])
def test_only_who_decides_by_verifying_remembers_tokens(flag: str) -> None:
    both = built(Metrics(), USE_OAUTH2_AUTH=flag, AUTHZ_COMPARE_SAMPLE="1")
    remembering = [isinstance(way, LocalWay) and way.authorizer.remembered._max_bytes > 0 for way in both._ways]
    assert remembering == [flag == "true", False]
