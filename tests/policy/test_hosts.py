import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.policy.hosts import HostList, parse_host_pattern

HOSTS = HostList(["chat.example.com", "*.chat.internal", "127.0.0.1", "[::1]"])

PERMITTED = {
    "name": "chat.example.com",
    "with a port": "chat.example.com:8443",
    "in capitals": "CHAT.Example.COM",
    "below the suffix": "a.chat.internal",
    "below the suffix, with a port": "a.chat.internal:80",
    "far below the suffix": "a.b-c.d_e.chat.internal",
    "below the suffix, in capitals": "A.CHAT.INTERNAL",
    "IPv4 address": "127.0.0.1:10000",
    "IPv6 address": "[::1]",
    "IPv6 address with a port": "[::1]:10000",
}

REFUSED_REALISTIC = {
    "empty": "",
    "another": "example.com",
    "longer at the end": "chat.example.com.evil.com",
    "longer at the start": "xchat.example.com",
    "below an exact name": "a.chat.example.com",
    "the suffix itself": "chat.internal",
    "glued to the suffix": "evilchat.internal",
    "the suffix and more": "a.chat.internal.evil.com",
    "trailing dot": "chat.example.com.",
    "other address": "127.0.0.2",
}

REFUSED_PATHOLOGICAL = {
    "only a port": ":80",
    "colon without a port": "chat.example.com:",
    "the pattern": "*.chat.internal",
    "only the dot and the suffix": ".chat.internal",
    "empty label": "a..chat.internal",
    "user information": "user@chat.example.com",
    "user information below": "user@a.chat.internal",
    "slash": "evil.com/.chat.internal",
    "backslash": "evil.com\\.chat.internal",
    "question mark": "evil.com?.chat.internal",
    "hash": "evil.com#.chat.internal",
    "comma": "evil.com,a.chat.internal",
    "space": "evil.com a.chat.internal",
    "leading space": " chat.example.com",
    "line feed": "chat.example.com\n",
    "NUL": "a\0.chat.internal",
    "percent": "%61.chat.internal",
    "port that is no number": "chat.example.com:http",
    "signed port": "chat.example.com:+80",
    "two ports": "chat.example.com:80:80",
    "port in other digits": "chat.example.com:\u0668\u0660",
    "Kelvin sign, which lowers to k": "\u212ahat.example.com",
    "full-width letters": "\uff43hat.example.com",
    "full stop of another script": "a\u3002chat.internal",
    "lone surrogate": "\udc80.chat.internal",
    "IPv6 without brackets": "::1",
    "IPv6 spelled out": "[0:0:0:0:0:0:0:1]",
    "label too long": "a" * 64 + ".chat.internal",
    "name too long": "a." * 130 + "chat.internal",
    "a megabyte": "a." * 500_000 + "chat.internal",
    "two hosts": "chat.example.com, chat.example.com",
    "two hosts, joined without a space": "a.chat.internal,b.chat.internal",
    "two hosts, the second one a stranger": "chat.example.com,evil.com",
}


@pytest.mark.parametrize("host", PERMITTED.values(), ids=PERMITTED)
def test_a_host_on_the_list_is_permitted(host: str) -> None:
    assert HOSTS.permits(host)


@pytest.mark.parametrize("host", REFUSED_REALISTIC.values(), ids=REFUSED_REALISTIC)
def test_a_host_that_is_not_on_the_list_is_refused(host: str) -> None:
    assert not HOSTS.permits(host)


@pytest.mark.parametrize("host", REFUSED_PATHOLOGICAL.values(), ids=REFUSED_PATHOLOGICAL)
def test_a_host_that_is_no_host_is_refused(host: str) -> None:
    assert not HOSTS.permits(host)


def test_a_kelvin_sign_does_not_become_a_k() -> None:
    assert not HostList(["kelvin.example.com"]).permits("\u212aelvin.example.com")


def test_without_a_list_any_host_is_permitted() -> None:
    assert HostList().permits("whatever")


def test_an_empty_list_permits_nobody() -> None:
    assert not HostList([]).permits("")
    assert not HostList([]).permits("chat.example.com")


@settings(max_examples=200)
@given(st.text())
def test_no_text_makes_it_raise(host: str) -> None:
    assert HOSTS.permits(host) in {True, False}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("chat.example.com", "chat.example.com"), ("*.Chat.Internal", "*.chat.internal"), ("localhost", "localhost"),
     ("a_b.xn--caf-dma.example", "a_b.xn--caf-dma.example"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"),
     ("[FD00::1]", "[fd00::1]")],
)  # fmt: skip
def test_a_pattern_is_lower_cased(text: str, pattern: str) -> None:
    assert parse_host_pattern(text) == pattern


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.", ".", "*.*.internal", "a.*.internal", "*a.internal", ".internal", "internal.", "a..b", "a b",
     "chat.example.com:443", "http://chat.example.com", "chat.example.com/", "caf\u00e9.example", "\u212aelvin.example",
     "[::1", "[::g]", "[0:0::1]", "[::1%eth0]", "::1", "a" * 64, "a." * 130 + "b"],
)  # fmt: skip
def test_what_is_no_host_name_is_refused_as_a_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="must be a host name"):
        parse_host_pattern(text)
