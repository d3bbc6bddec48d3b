"""The environment is read whole or refused whole, with every mistake in one list."""

from pathlib import Path

import pytest

from authz_service.address import Address
from authz_service.config import NAMES, Config, load_config
from authz_service.errors import ConfigurationError


def problems_of(**environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        load_config(environ)
    return refused.value.problems


class TestDefaults:
    def test_an_empty_environment_is_a_good_one(self) -> None:
        config = load_config({})
        assert config.issuer == "http://auth-api:8000"
        assert config.jwks_url == "http://auth-api:8000/.well-known/jwks.json"
        assert config.permissions_url == "http://auth-api:8000/api/auth/permissions"
        assert config.audiences == ("chat-api",)
        assert config.algorithms == ("RS256",)
        assert config.listen == (Address("127.0.0.1", 9191),)
        assert config.admin_listen == Address("127.0.0.1", 9902)
        assert config.policy_file == Path("policy.yaml")
        assert config.jwks_snapshot_path is None

    def test_urls_follow_the_issuer(self) -> None:
        config = load_config({"AUTH_API_ISSUER": "https://id.example.com/"})
        assert config.issuer == "https://id.example.com/"
        assert config.jwks_url == "https://id.example.com/.well-known/jwks.json"

    def test_foreign_variables_are_not_ours_to_judge(self) -> None:
        load_config({"PATH": "/bin", "AUTH_API_TOKEN": "x"})

    def test_nothing_can_be_changed_later(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            load_config({}).issuer = "http://elsewhere"  # type: ignore[misc]


GOOD = [
    ("AUTHZ_LISTEN", "unix:///run/authz.sock", "listen", (Address(path="/run/authz.sock"),)),
    ("AUTHZ_LISTEN", "0.0.0.0:1, [::1]:2", "listen", (Address("0.0.0.0", 1), Address("::1", 2))),  # noqa: S104
    ("JWT_AUDIENCE", "chat-api,admin-api", "audiences", ("chat-api", "admin-api")),
    ("JWT_ALGORITHMS", "RS256,ES256", "algorithms", ("RS256", "ES256")),
    ("JWKS_REFRESH_INTERVAL_SECONDS", "0.5e2", "jwks_refresh_interval_seconds", 50.0),
    ("AUTHZ_FORWARD_AUTHORIZATION", "true", "forward_authorization", True),
    ("AUTHZ_DECISION_LOG", "stdout", "decision_log", "stdout"),
    ("AUTHZ_DECISION_LOG_SAMPLE", "1", "decision_log_sample", 1.0),
    ("AUTHZ_DECISION_LOG_SUBJECT", "plain", "decision_log_subject", "plain"),
    ("JWKS_SNAPSHOT_PATH", "/var/lib/authz/keys.json", "jwks_snapshot_path", Path("/var/lib/authz/keys.json")),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD, ids=[f"{name}={text}" for name, text, *_ in GOOD])
def test_a_setting_is_read(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load_config({name: text}), field) == value


REALISTIC = {
    "AUTH_API_ISSUER": "auth-api:8000",
    "AUTH_API_JWKS_URL": "http://user:secret@auth-api/keys",
    "JWT_LEEWAY_SECONDS": "30s",
    "JWT_AUDIENCE": "chat-api,,",
    "JWKS_FETCH_TIMEOUT_SECONDS": "0",
    "JWKS_MAX_STALE_SECONDS": "",
    "AUTHZ_LISTEN": "9191",
    "AUTHZ_LOG_LEVEL": "verbose",
    "AUTHZ_FORWARD_AUTHORIZATION": "maybe",
    "AUTHZ_DECISION_LOG": "",
    "AUTHZ_DECISION_LOG_SAMPLE": "10",
    "AUTHZ_DECISION_LOG_SUBJECT": "none",
}
SYNTHETIC = {
    "JWT_ALGORITHMS": "none",
    "JWT_MAX_TOKEN_BYTES": "-1",
    "JWKS_REFRESH_INTERVAL_SECONDS": "nan",
    "JWKS_UNKNOWN_KID_COOLDOWN_SECONDS": "inf",
    "AUTHZ_ADMIN_LISTEN": "unix://relative",
    "AUTHZ_POLICY_FILE": "  ",
    "AUTHZ_MAX_INJECTED_BYTES": "1_000_000_000",
}
PATHOLOGICAL = {
    "AUTH_API_ISSUER": "http://" + "x" * 10_000 + "#",
    "JWT_LEEWAY_SECONDS": "9" * 5000,
    "AUTHZ_LISTEN": "[::1]:²",
    "AUTHZ_TRANSPORT": "\x00",
}


@pytest.mark.parametrize(
    ("name", "value"), [*REALISTIC.items(), *SYNTHETIC.items(), *PATHOLOGICAL.items()],
    ids=[f"{name}={value[:20]!r}" for name, value in [*REALISTIC.items(), *SYNTHETIC.items(), *PATHOLOGICAL.items()]],
)  # fmt: skip
def test_a_bad_value_is_one_line_that_begins_with_its_name(name: str, value: str) -> None:
    problems = problems_of(**{name: value})
    assert len(problems) == 1
    assert problems[0].startswith(f"{name}=")
    assert len(problems[0]) < 300
    assert problems[0].isprintable()


@pytest.mark.parametrize("symmetric", ["HS256", "RS256,HS512", "none", "rs256", "PS256"])
def test_only_asymmetric_algorithms_that_have_keys_are_on_offer(symmetric: str) -> None:
    assert "RS256" in problems_of(JWT_ALGORITHMS=symmetric)[0]


def test_every_mistake_is_listed_at_once() -> None:
    problems = problems_of(JWT_LEEWAY_SECONDS="x", AUTHZ_LISTEN="x", JWKS_TIMEOUT="5", AUTHZ_LOG_LEVL="info")
    assert len(problems) == 4


def test_an_unknown_name_is_answered_with_the_nearest_known_one() -> None:
    assert problems_of(AUTHZ_POLICY_FIEL="x") == (
        "AUTHZ_POLICY_FIEL: no such setting; did you mean AUTHZ_POLICY_FILE?",
    )


@pytest.mark.parametrize("name", ["AUTHZ_X", "JWKS_X", "JWT_X"])
def test_every_prefix_of_ours_is_watched(name: str) -> None:
    assert problems_of(**{name: "1"})[0].startswith(f"{name}: no such setting")


def service_link(ip: str, protocol: str = "tcp", *, prefix: str = "AUTHZ") -> dict[str, str]:
    """What kubelet puts into each pod for a Service with one port, called ``grpc``."""
    url = f"{protocol}://[{ip}]:9191" if ":" in ip else f"{protocol}://{ip}:9191"
    port = f"{prefix}_PORT_9191_{protocol.upper()}"
    return {
        f"{prefix}_SERVICE_HOST": ip, f"{prefix}_SERVICE_PORT": "9191", f"{prefix}_SERVICE_PORT_GRPC": "9191",
        f"{prefix}_PORT": url, port: url, f"{port}_PROTO": protocol, f"{port}_PORT": "9191", f"{port}_ADDR": ip,
    }  # fmt: skip


@pytest.mark.parametrize("environ", [
    service_link("10.0.0.11"), service_link("fd00::1"), service_link("10.0.0.11", "udp"),
    service_link("fd00::1", "sctp"), service_link("10.0.0.11", prefix="AUTHZ_LISTEN"), {"AUTHZ_PORT": "tcp://fd00::1:9191"},
], ids=["IPv4", "IPv6", "UDP", "SCTP", "longer name", "IPv6 of old clusters"])  # fmt: skip
def test_what_kubernetes_says_of_a_service_is_not_ours(environ: dict[str, str]) -> None:
    load_config(environ)


@pytest.mark.parametrize(("name", "value", "meant"), [
    ("AUTHZ_LISTEN_PORT", "9191", "AUTHZ_LISTEN"),
    ("AUTHZ_LISTEN_PORT", "127.0.0.1:9191", "AUTHZ_LISTEN"),
    ("AUTHZ_ADMIN_PORT", "9902", "AUTHZ_ADMIN_LISTEN"),
    ("AUTHZ_PORT", "9191", "AUTHZ_LISTEN"),
    ("AUTHZ_PORT", "tcp://authz:9191", "AUTHZ_LISTEN"),
    ("AUTHZ_PORT", "http://10.0.0.11:9191", "AUTHZ_LISTEN"),
    ("AUTHZ_PORT", "tcp://10.0.0.11:9191\n", "AUTHZ_LISTEN"),
])  # fmt: skip
def test_a_port_that_kubernetes_would_not_write_so_is_a_mistake(name: str, value: str, meant: str) -> None:
    assert problems_of(**{name: value}) == (f"{name}: no such setting; did you mean {meant}?",)


@pytest.mark.parametrize("name", service_link("10.0.0.11"))
def test_a_name_of_a_service_with_a_persons_value_is_a_mistake(name: str) -> None:
    assert problems_of(**{name: "my-value"})[0].startswith(f"{name}: no such setting")


@pytest.mark.parametrize("credentials", ["user:hunter2", "hunter2", "user:hunter2@x", "user:hunt%40er2hunter2"])
def test_credentials_in_a_url_are_refused_and_not_shown(credentials: str) -> None:
    (problem,) = problems_of(AUTH_API_JWKS_URL=f"http://{credentials}@auth.example.com/")
    assert "must not carry credentials" in problem
    assert "hunter2" not in problem


def test_credentials_that_break_their_url_are_not_shown() -> None:
    (problem,) = problems_of(AUTH_API_JWKS_URL="http://user:hun/ter2@auth.example.com/")
    assert "ter2" not in problem


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Config.model_fields.values())
    assert len(set(NAMES)) == len(Config.model_fields)


def test_the_admin_port_has_one_address() -> None:
    assert problems_of(AUTHZ_ADMIN_LISTEN="127.0.0.1:9902,127.0.0.1:9903") == (
        "AUTHZ_ADMIN_LISTEN='127.0.0.1:9902,127.0.0.1:9903': must be one address only, without a comma",
    )


@pytest.mark.parametrize(("listen", "twice"), [
    ("127.0.0.1:1,127.0.0.1:2,127.0.0.1:1", "127.0.0.1:1"),
    ("unix:///run/a.sock, unix:///run/a.sock", "unix:///run/a.sock"),
])  # fmt: skip
def test_an_address_is_listed_once(listen: str, twice: str) -> None:
    assert problems_of(AUTHZ_LISTEN=listen) == (
        f"AUTHZ_LISTEN={listen!r}: names {twice} more than once; each address can be listened on once",
    )


@pytest.mark.parametrize("environ", [
    {"AUTHZ_LISTEN": "127.0.0.1:1,127.0.0.1:2", "AUTHZ_ADMIN_LISTEN": "127.0.0.1:2"},
    {"AUTHZ_LISTEN": "unix:///run/a.sock", "AUTHZ_ADMIN_LISTEN": "unix:///run/a.sock"},
    {"AUTHZ_ADMIN_LISTEN": "127.0.0.1:9191"},
    {"AUTHZ_LISTEN": "127.0.0.1:9902"},
], ids=["one of a list", "Unix socket", "the other's default", "its own default"])  # fmt: skip
def test_the_admin_port_is_not_where_envoy_connects(environ: dict[str, str]) -> None:
    address = environ.get("AUTHZ_ADMIN_LISTEN", "127.0.0.1:9902")
    assert problems_of(**environ) == (
        f"AUTHZ_ADMIN_LISTEN={address!r}: is in AUTHZ_LISTEN as well; the admin port needs an address of its own",
    )


@pytest.mark.parametrize(("listen", "overlapping"), [
    ("0.0.0.0:1,127.0.0.1:1", "0.0.0.0:1 and 127.0.0.1:1"),
    ("127.0.0.1:2,127.0.0.1:1,[::]:1", "127.0.0.1:1 and [::]:1"),
])  # fmt: skip
def test_no_two_addresses_for_envoy_overlap(listen: str, overlapping: str) -> None:
    assert problems_of(AUTHZ_LISTEN=listen) == (
        f"AUTHZ_LISTEN={listen!r}: {overlapping} overlap; leave one out, or give it another port",
    )


@pytest.mark.parametrize(("listen", "admin", "overlapped"), [
    ("0.0.0.0:1", "127.0.0.1:1", "0.0.0.0:1"),
    ("[::]:1", "127.0.0.1:1", "[::]:1"),
    ("127.0.0.2:1,127.0.0.1:1", "0.0.0.0:1", "127.0.0.2:1"),
    ("[::1]:1", "[::]:1", "[::1]:1"),
])  # fmt: skip
def test_the_admin_port_does_not_overlap_with_where_envoy_connects(listen: str, admin: str, overlapped: str) -> None:
    (problem,) = problems_of(AUTHZ_LISTEN=listen, AUTHZ_ADMIN_LISTEN=admin)
    wrong = f"AUTHZ_ADMIN_LISTEN={admin!r}: overlaps {overlapped} of AUTHZ_LISTEN"
    assert problem == f"{wrong}; the admin port needs an address of its own"


@pytest.mark.parametrize(("listen", "admin"), [
    ("0.0.0.0:1,[::1]:1", "127.0.0.1:2"), ("127.0.0.1:1", "[::]:1"), ("127.0.0.1:1,127.0.0.2:1", "127.0.0.3:1"),
])  # fmt: skip
def test_addresses_that_leave_room_for_each_other_are_good(listen: str, admin: str) -> None:
    load_config({"AUTHZ_LISTEN": listen, "AUTHZ_ADMIN_LISTEN": admin})


def test_port_0_is_another_one_each_time() -> None:
    load_config({"AUTHZ_LISTEN": "127.0.0.1:0,127.0.0.1:0", "AUTHZ_ADMIN_LISTEN": "127.0.0.1:0"})


def test_an_address_is_not_compared_with_a_mistake() -> None:
    assert len(problems_of(AUTHZ_LISTEN="9191", AUTHZ_ADMIN_LISTEN="127.0.0.1:9191")) == 1


@pytest.mark.parametrize(("name", "text", "right"), [
    ("USE_OAUTH2_AUTH", "fasle", "must be true or false"),
    ("JWT_LEEWAY_SECONDS", "30s", "must be a whole number"),
    ("JWT_LEEWAY_SECONDS", "0.5", "must be a whole number"),
    ("JWT_LEEWAY_SECONDS", "301", "must be less than or equal to 300"),
    ("AUTHZ_COMPARE_SAMPLE", "10%", "must be a number"),
    ("AUTHZ_COMPARE_SAMPLE", "nan", "must be a finite number"),
    ("JWKS_FETCH_TIMEOUT_SECONDS", "0", "must be greater than 0"),
    ("AUTHZ_LOG_FORMAT", "xml", "must be 'json' or 'text'"),
])  # fmt: skip
def test_a_bad_value_is_told_with_what_would_be_right(name: str, text: str, right: str) -> None:
    assert problems_of(**{name: text}) == (f"{name}={text!r}: {right}",)


def test_a_number_of_too_many_digits_is_told_to_be_smaller() -> None:
    assert problems_of(JWT_LEEWAY_SECONDS="9" * 5000)[0].endswith(": must be a smaller number")


@pytest.mark.parametrize(("name", "meant"), [
    ("USE_OAUTH_AUTH", "USE_OAUTH2_AUTH"),
    ("USE_OAUTH2_AUHT", "USE_OAUTH2_AUTH"),
    ("AUTH_API_ISUER", "AUTH_API_ISSUER"),
    ("AUTH_API_JWKS_URI", "AUTH_API_JWKS_URL"),
    ("AUTH_API_PERMISSION_URL", "AUTH_API_PERMISSIONS_URL"),
    ("AUTH_API_TIMEOUT_SECOND", "AUTH_API_TIMEOUT_SECONDS"),
])  # fmt: skip
def test_a_name_that_is_nearly_ours_is_a_typing_mistake(name: str, meant: str) -> None:
    assert problems_of(**{name: "x"}) == (f"{name}: no such setting; did you mean {meant}?",)


@pytest.mark.parametrize("name", [
    "AUTH_API_TOKEN", "AUTH_API_URL", "AUTH_API_HOST", "AUTH_API_ISSUER_URL", "AUTH_API_SERVICE_HOST", "USE_OAUTH",
    "USE_OAUTH2_LOGIN", "OAUTH2_AUTH",
])  # fmt: skip
def test_a_name_that_is_hardly_ours_is_left_alone(name: str) -> None:
    load_config({name: "x"})


@pytest.mark.parametrize("name", ["AUTHZ_X", "AUTHZ_THREADS", "JWT_SECRET", "JWKS_TIMEOUT"])
def test_a_name_that_is_close_to_none_gets_no_suggestion(name: str) -> None:
    assert problems_of(**{name: "1"}) == (f"{name}: no such setting",)


@pytest.mark.parametrize(("name", "meant"), [
    ("AUTHZ_ADMIN_PORT", "AUTHZ_ADMIN_LISTEN"),
    ("AUTHZ_PORT", "AUTHZ_LISTEN"),
    ("AUTHZ_WORKERS", "serve --workers N"),
    ("JWKS_URL", "AUTH_API_JWKS_URL"),
    ("JWT_ISSUER", "AUTH_API_ISSUER"),
    ("JWT_LEEWAY", "JWT_LEEWAY_SECONDS"),
    ("JWKS_REFRESH_SECONDS", "JWKS_REFRESH_INTERVAL_SECONDS"),
])  # fmt: skip
def test_what_is_likely_meant_is_suggested(name: str, meant: str) -> None:
    assert problems_of(**{name: "1"}) == (f"{name}: no such setting; did you mean {meant}?",)
