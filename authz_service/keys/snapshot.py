"""The last good key set on disk, so that a restart while the issuer is down still serves.

What is read here verifies tokens, so it is believed only whole, for this issuer, and no longer than its age allows.
"""

import asyncio
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

MAX_FILE_BYTES = 2 * 1024 * 1024
"""A key set of 256 KiB, every byte of it escaped in JSON, still fits."""

log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A document that was good when it was fetched, ``age_seconds`` ago by the wall clock."""

    document: bytes
    age_seconds: float


class _Content(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1]
    issuer: str
    fetched_at: float
    """Unix seconds."""
    sha256: str
    document: str


class Snapshot:
    """One issuer's file.

    :param run: runs a blocking function elsewhere; a thread unless told otherwise.
    """

    def __init__(
        self, path: Path, issuer: str,
        *, run: Callable[[Callable[[], None]], Awaitable[None]] = asyncio.to_thread,
    ) -> None:  # fmt: skip
        self._path = path
        self._issuer = issuer
        self._run = run
        self._to_do: Callable[[], None] | None = None
        self._doing: asyncio.Task[None] | None = None

    def read(self, now: float) -> Restored | None:
        """The document and its age at ``now`` (Unix seconds), or None: there is none, or none to believe (logged)."""
        try:
            return self._read(now)
        except FileNotFoundError:
            return None
        except ValidationError:
            problem = "it is damaged"
        except OSError as error:
            problem = error.strerror or type(error).__name__
        except ValueError as error:
            problem = str(error)
        log.warning(
            "JWKS snapshot %s ignored: %s. The next good fetch writes a new one.", self._path, problem,
        )  # fmt: skip
        return None

    def _read(self, now: float) -> Restored:
        """:raises ValueError: with our own words, or a ValidationError, when the file must not be believed."""
        content = _Content.model_validate_json(_file_bytes(self._path))
        document = content.document.encode()
        if hashlib.sha256(document).hexdigest() != content.sha256:
            raise ValueError("it is damaged")
        if content.issuer != self._issuer:
            raise ValueError("it belongs to another issuer")
        if content.fetched_at > now:
            raise ValueError("it is dated in the future; check the clock")
        return Restored(document, now - content.fetched_at)

    def save_soon(self, document: bytes, fetched_at: float) -> None:
        """Write in the background: a slow disk holds up neither decisions nor refreshes. The newest document wins."""
        self._do_soon(partial(self.write, document, fetched_at))

    def discard_soon(self) -> None:
        """Remove the file in the background: what it holds must not be believed again."""
        self._do_soon(self.discard)

    def _do_soon(self, what: Callable[[], None]) -> None:
        self._to_do = what
        if self._doing is None or self._doing.done():
            self._doing = asyncio.create_task(self._do())

    async def _do(self) -> None:
        while self._to_do is not None:
            what, self._to_do = self._to_do, None
            await self._run(what)

    async def stop(self) -> None:
        """Wait for nothing: the file is replaced in one step, so a write that is cut off leaves the old one."""
        if self._doing is not None:
            self._doing.cancel()
            await asyncio.gather(self._doing, return_exceptions=True)

    def discard(self) -> None:
        """Remove the file; it may be gone already. A disk that keeps it is logged."""
        try:
            self._path.unlink(missing_ok=True)
            _sync_directory(self._path.parent)
        except OSError as error:
            log.error(  # noqa: TRY400 - the trace tells nothing more
                "JWKS snapshot %s cannot be removed: %s. Check its directory and remove it: a restart while the issuer "
                "is down would believe it.", self._path, error.strerror or type(error).__name__,
            )  # fmt: skip

    def write(self, document: bytes, fetched_at: float) -> None:
        """Replace the file, whole or not at all. A disk that does not take it is logged; the service goes on."""
        try:
            content = _Content(
                version=1, issuer=self._issuer, fetched_at=fetched_at, sha256=hashlib.sha256(document).hexdigest(),
                document=document.decode(),
            )  # fmt: skip
            _replace(self._path, content.model_dump_json(indent=2).encode())
        except (OSError, ValueError) as error:
            log.warning(
                "JWKS snapshot %s not written: %s. Decisions go on; a restart would need the issuer. "
                "Check JWKS_SNAPSHOT_PATH, its permissions and the space there.",
                self._path, getattr(error, "strerror", None) or type(error).__name__,
            )  # fmt: skip


def _file_bytes(path: Path) -> bytes:
    # O_NONBLOCK, so that a FIFO cannot hold us up.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_ours(os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    return content


def _check_ours(status: os.stat_result) -> None:
    """A regular file, and not everybody could have written it; a group may, as Kubernetes' fsGroup does."""
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_uid != os.geteuid():
        raise ValueError("it belongs to another user")
    if status.st_mode & stat.S_IWOTH:
        raise ValueError("everybody may write it; give it mode 0600")


def _replace(path: Path, content: bytes) -> None:
    # mkstemp: mode 0600 from the first moment, and never through somebody's symlink.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """So that the rename itself survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
