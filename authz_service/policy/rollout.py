"""Which mode a rule has for whom, while it moves from shadow to enforce."""

from hashlib import sha256

from authz_service.model import Mode


def effective_mode(mode: Mode, enforce_percent: int | None, subject: str) -> Mode:
    """The mode for this caller.

    ``enforce_percent`` picks callers by a hash of ``sub``, the same ones on each request, in each process and at each
    higher percentage. Without a percentage, or without a verified ``sub`` to pick by, ``mode`` stands.
    """
    if enforce_percent is None or not subject:
        return mode
    return Mode.ENFORCE if _bucket(subject) < enforce_percent else Mode.SHADOW


def _bucket(subject: str) -> int:
    digest = sha256(subject.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % 100
