import pytest

from authz_service.transport import grpc_wire
from authz_service.transport.grpc_wire import (
    COMPRESSED,
    NOT_ONE_MESSAGE,
    CallRefused,
    Refusal,
    is_grpc,
    read_message,
    timeout_seconds,
)

TIMEOUTS = {
    b"1H": 60, b"2M": 60, b"59S": 59, b"200m": 0.2, b"1u": 1e-6, b"99999999n": 0.099999999, b"0m": 0, b"00000001S": 1,
}  # fmt: skip
BAD_TIMEOUTS = [
    b"", b"1", b"S", b"1s", b"-1S", b"1.5S", b" 1S", b"1S ", b"1S\n", b"123456789n",
    "\N{ARABIC-INDIC DIGIT ONE}S".encode(),
]  # fmt: skip
GRPC = [b"application/grpc", b"application/grpc+proto", b"application/grpc;a=b", b"application/grpc ;a"]
NOT_GRPC = [b"", b"application/grpcx", b"application/grpc-web", b"application/grpc+json", b"text/plain"]


@pytest.mark.parametrize(("value", "seconds"), TIMEOUTS.items())
def test_timeout_is_read_and_bounded(value: bytes, seconds: float) -> None:
    assert timeout_seconds(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", BAD_TIMEOUTS)
def test_malformed_timeout_is_an_error(value: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        timeout_seconds(value)


BODIES: dict[str, tuple[bytes, Refusal]] = {
    "nothing": (b"", NOT_ONE_MESSAGE),
    "prefix cut short": (b"\0\0\0\0", NOT_ONE_MESSAGE),
    "message cut short": (b"\0\0\0\0\2a", NOT_ONE_MESSAGE),
    "more than a message": (b"\0\0\0\0\1ab", NOT_ONE_MESSAGE),
    "two messages": (b"\0\0\0\0\1a\0\0\0\0\1b", NOT_ONE_MESSAGE),
    "compressed": (b"\1\0\0\0\1a", COMPRESSED),
    "flag that nobody knows": (b"\2\0\0\0\1a", NOT_ONE_MESSAGE),
}


@pytest.mark.parametrize(("body", "refusal"), BODIES.values(), ids=BODIES)
def test_body_that_is_not_one_plain_message_is_refused(body: bytes, refusal: Refusal) -> None:
    with pytest.raises(CallRefused) as refused:
        read_message(body)
    assert refused.value.refusal is refusal


@pytest.mark.parametrize("content", [b"", b"a", b"\0" * 300])
def test_message_is_read(content: bytes) -> None:
    assert read_message(b"\0" + len(content).to_bytes(4) + content) == content


@pytest.mark.parametrize("value", GRPC)
def test_grpc_content_types(value: bytes) -> None:
    assert is_grpc(value)


@pytest.mark.parametrize("value", NOT_GRPC)
def test_other_content_types(value: bytes) -> None:
    assert not is_grpc(value)


def test_texts_of_refusals_can_be_sent_as_they_are() -> None:
    """Printable ASCII, no percent sign, and short enough for a length of one octet (RFC 7541 section 5.1)."""
    refusals = [value for value in vars(grpc_wire).values() if isinstance(value, Refusal)]
    assert refusals
    for refusal in refusals:
        assert refusal.text.isascii()
        assert refusal.text.isprintable()
        assert "%" not in refusal.text
        assert len(refusal.text) < 127
