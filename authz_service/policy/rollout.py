"""Which mode a rule has for whom, while it moves from shadow to enforce."""

from hashlib import sha256

from authz_service.model import Mode

FINGERPRINT_BYTES = 8


def effective_mode(mode: Mode, enforce_percent: int | None, subject: str) -> Mode:
    """The mode for this caller.

    ``enforce_percent`` picks callers by a hash of ``sub``, the same ones on each request, in each process and at each
    higher percentage. Without a percentage, or without a verified ``sub`` to pick by, ``mode`` stands.
    """
    if enforce_percent is None or not subject:
        return mode
    return Mode.ENFORCE if share(fingerprint(subject)) < enforce_percent else Mode.SHADOW


def fingerprint(subject: str) -> bytes:
    """A few bytes that stand for a caller where the name is not wanted; a percentage picks by them."""
    return sha256(subject.encode("utf-8", "surrogatepass")).digest()[:FINGERPRINT_BYTES]


def share(fingerprint: bytes) -> int:
    """Which of the hundred shares of callers one belongs to: enforced for this one once the percentage is more."""
    return int.from_bytes(fingerprint) % 100
