"""One address for each worker, or a refusal that says what would be right."""

import pytest

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.workers.endpoints import MAX_WORKERS, endpoints

ADMIN = Address("127.0.0.1", 9902)


def named(listen: str, workers: int) -> list[str]:
    addresses = tuple(Address.parse(text) for text in listen.split(","))
    return [str(address) for address in endpoints(addresses, ADMIN, workers)]


@pytest.mark.parametrize(("listen", "expected"), [
    ("127.0.0.1:9191,127.0.0.1:9195", ["127.0.0.1:9191", "127.0.0.1:9195"]),
    ("unix:///a.sock,127.0.0.1:9191", ["unix:///a.sock", "127.0.0.1:9191"]),
    ("127.0.0.1:9191", ["127.0.0.1:9191", "127.0.0.1:9192"]),
    ("[::1]:9191", ["[::1]:9191", "[::1]:9192"]),
    ("unix:///run/authz.sock", ["unix:///run/authz-0.sock", "unix:///run/authz-1.sock"]),
    ("unix:///run/authz", ["unix:///run/authz-0", "unix:///run/authz-1"]),
])  # fmt: skip
def test_addresses_are_taken_as_listed_or_counted_up_from_the_only_one(listen: str, expected: list[str]) -> None:
    assert named(listen, 2) == expected


def test_the_admin_port_may_be_the_wider_of_the_two() -> None:
    """As in a pod, where Kubernetes asks it from outside."""
    with pytest.raises(ConfigurationError, match=r"comes to AUTHZ_ADMIN_LISTEN=0\.0\.0\.0:9902"):
        endpoints((Address("127.0.0.1", 9900),), Address("0.0.0.0", 9902), 3)  # noqa: S104 - nobody listens


@pytest.mark.parametrize(("listen", "workers", "words"), [
    ("127.0.0.1:1,127.0.0.1:2", 3, "2 addresses for --workers 3; list 3, or one to count up from"),
    ("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", 2, "3 addresses for --workers 2"),
    ("127.0.0.1:1,127.0.0.1:1", 2, "each worker needs an address of its own"),
    ("unix:///a,unix:///a", 2, "each worker needs an address of its own"),
    ("127.0.0.1:0", 2, "choose"),
    ("127.0.0.1:0,127.0.0.1:1", 2, "port 0 would be another one after each restart"),
    ("127.0.0.1:65535", 2, "port 65536 does not exist; begin lower"),
    ("127.0.0.1:9900", 3, "it comes to AUTHZ_ADMIN_LISTEN=127.0.0.1:9902; move one"),
    ("0.0.0.0:9901", 2, "it comes to AUTHZ_ADMIN_LISTEN=127.0.0.1:9902"),
    ("127.0.0.1:9191", 0, "must be from 1 to"),
    ("127.0.0.1:9191", -1, "must be from 1 to"),
    ("127.0.0.1:9191", MAX_WORKERS + 1, "must be from 1 to"),
])  # fmt: skip
def test_what_gives_no_endpoint_to_each_worker_is_refused(listen: str, workers: int, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        named(listen, workers)
    assert len(refused.value.problems) == 1
    assert words in refused.value.problems[0]
