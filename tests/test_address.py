"""An address is read as it is meant, or refused with what would be right."""

from socket import AF_UNIX, socket

import pytest

from authz_service.address import Address


@pytest.mark.parametrize("text", ["127.0.0.1:9191", "[::1]:9191", "unix:///run/a.sock", "localhost:0"])
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", [
    "127.0.0.1:9902,127.0.0.1:9903", "a,b:1", "unix:///run/a.sock,unix:///run/b.sock",
])  # fmt: skip
def test_a_list_is_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be one address only, without a comma"):
        Address.parse(text)


@pytest.mark.parametrize("text", [" 127.0.0.1:9191", "127.0.0.1 :9191", "127.0.0.1:1 127.0.0.1:2", "a\tb:1", "a\n:1"])
def test_a_host_has_no_spaces(text: str) -> None:
    with pytest.raises(ValueError, match="must be host:port or unix:///path, without spaces"):
        Address.parse(text)


def test_an_asterisk_is_no_host() -> None:
    with pytest.raises(ValueError, match=r"write 0\.0\.0\.0"):
        Address.parse("*:9191")


def test_a_unix_path_is_as_long_as_the_system_takes() -> None:
    longest = "/" + "é" * 53
    with socket(AF_UNIX) as server:
        with pytest.raises(OSError, match="too long"):
            server.bind(f"{longest}a")
        with pytest.raises(FileNotFoundError):
            server.bind(longest.replace("é", "/x"))  # which nobody has, and as many bytes
    assert Address.parse(f"unix://{longest}").path == longest
    with pytest.raises(ValueError, match="at most 107 bytes"):
        Address.parse(f"unix://{longest}a")


def test_a_unix_path_may_have_a_space_in_it_but_not_at_its_end() -> None:
    assert Address.parse("unix:///run/a b.sock").path == "/run/a b.sock"
    with pytest.raises(ValueError, match="without a space at its end"):
        Address.parse("unix:///run/a.sock\n")


@pytest.mark.parametrize("text", [
    "::1:9191", "127.0.0.1:9191:9192", "[::1:9191", "::1]:9191", "[]:1", "[localhost]:1", "[127.0.0.1]:1",
])  # fmt: skip
def test_an_ipv6_address_stands_in_brackets_and_nothing_else_does(text: str) -> None:
    with pytest.raises(ValueError, match=r"an IPv6 address is written in brackets: \[::1\]:port"):
        Address.parse(text)


def test_port_0_is_no_place_yet() -> None:
    assert not Address.parse("127.0.0.1:0").is_one_place
    assert Address.parse("127.0.0.1:1").is_one_place
    assert Address.parse("unix:///run/a.sock").is_one_place


@pytest.mark.parametrize(("address", "other"), [
    ("127.0.0.1:1", "127.0.0.1:1"),
    ("localhost:1", "localhost:1"),
    ("unix:///run/a.sock", "unix:///run/a.sock"),
    ("0.0.0.0:1", "127.0.0.1:1"),
    ("[::]:1", "[::1]:1"),
    ("[::]:1", "127.0.0.1:1"),
    ("[::]:1", "0.0.0.0:1"),
    ("[::1]:1", "[0:0::1]:1"),
])  # fmt: skip
def test_an_address_covers_itself_and_what_it_stands_for(address: str, other: str) -> None:
    assert Address.parse(address).covers(Address.parse(other))


@pytest.mark.parametrize(("address", "other"), [
    ("127.0.0.1:1", "0.0.0.0:1"),
    ("127.0.0.1:1", "127.0.0.2:1"),
    ("0.0.0.0:1", "127.0.0.1:2"),
    ("0.0.0.0:1", "[::1]:1"),
    ("0.0.0.0:1", "[::]:1"),
    ("0.0.0.0:1", "localhost:1"),
    ("localhost:1", "127.0.0.1:1"),
    ("0.0.0.0:0", "127.0.0.1:0"),
    ("127.0.0.1:0", "127.0.0.1:0"),
    ("unix:///run/a.sock", "unix:///run/b.sock"),
    ("unix:///run/a.sock", "0.0.0.0:1"),
])  # fmt: skip
def test_an_address_covers_nothing_else(address: str, other: str) -> None:
    assert not Address.parse(address).covers(Address.parse(other))


@pytest.mark.parametrize(("other", "covered"), [
    ("[::]:1", True), ("[::1]:1", True), ("0.0.0.0:1", False), ("127.0.0.1:1", False),
])  # fmt: skip
def test_without_ipv4_the_unspecified_address_covers_ipv6_only(other: str, covered: bool) -> None:
    assert Address.parse("[::]:1").covers(Address.parse(other), ipv4_too=False) is covered
