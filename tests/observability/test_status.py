"""``/status`` tells all that people need, and no secret."""

import json
from typing import Any

from authz_service.config import Config
from authz_service.issuers import trusted_issuers
from authz_service.keys.assembly import key_rings
from authz_service.observability.metrics import Metrics
from authz_service.observability.status import Status, configuration
from authz_service.policy.loader import parse_policy
from tests.support import status as example

POLICY = parse_policy("version: 1\nrules: [{name: health, match: {path: /healthz}, public: true}]")


def told() -> dict[str, Any]:
    config = Config.model_validate({"AUTH_API_ISSUER": example.ISSUER})
    keys = key_rings(config, [])
    keys.use(trusted_issuers(config, POLICY))
    seconds = iter([100.0, 107.0])
    status = Status(config, keys, clock=lambda: example.NOW, monotonic=lambda: next(seconds))
    return status.tell(ready=False, policy=POLICY, families=Metrics().registry.collect(), denials=[example.denial()])


def test_it_tells_of_everything_that_the_page_shows() -> None:
    shown = told()
    assert shown.keys() == example.status().keys()
    assert shown["policy"].keys() == example.status()["policy"].keys()
    assert shown["policy"]["rules"][0].keys() == example.rule("health").keys()
    assert shown["issuers"][0].keys() == example.issuer().keys()
    assert (shown["ready"], shown["now"], shown["up_seconds"]) == (False, example.NOW, 7.0)
    assert json.loads(json.dumps(shown)) == shown


def test_the_configuration_is_shown_in_the_words_of_the_environment() -> None:
    shown = configuration(Config.model_validate({
        "AUTHZ_LISTEN": "127.0.0.1:1,unix:///run/a.sock", "JWT_AUDIENCE": "a,b", "AUTHZ_FORWARD_AUTHORIZATION": "true",
    }))  # fmt: skip
    assert shown["AUTHZ_LISTEN"] == "127.0.0.1:1, unix:///run/a.sock"
    assert shown["AUTHZ_ADMIN_LISTEN"] == "127.0.0.1:9902"
    assert shown["JWT_AUDIENCE"] == "a, b"
    assert shown["AUTHZ_FORWARD_AUTHORIZATION"] == "true"
    assert shown["JWKS_SNAPSHOT_PATH"] == ""


def test_a_url_is_shown_without_its_query_which_may_hold_a_key() -> None:
    shown = configuration(Config.model_validate({"AUTH_API_JWKS_URL": "https://auth.example.com/keys?code=secret"}))
    assert shown["AUTH_API_JWKS_URL"] == "https://auth.example.com/keys"


def test_no_setting_is_a_secret_as_yet() -> None:
    telling = {word for name in configuration(Config()) for word in name.split("_")}
    assert not telling & {"SECRET", "PASSWORD", "SALT", "CREDENTIALS", "APIKEY"}, "withhold it from /status"
