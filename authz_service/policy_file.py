"""The policy file on disk: read at start, watched afterwards. The last good policy serves on."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from authz_service.errors import ConfigurationError
from authz_service.policy.loader import MAX_POLICY_BYTES, TOO_LARGE, Policy, parse_policy

POLL_SECONDS = 0.5
"""Looking is cheaper than being told: it sees the symlink swap of a ConfigMap and every file system alike."""
SETTLE_SECONDS = 0.25
"""Between the look that finds a change and the one that must find the same."""

log = logging.getLogger(__name__)


class PolicyFile:
    """A policy and the file that it came from."""

    def __init__(self, path: Path) -> None:
        self.text = ""
        """What the policy that was loaded last says."""
        self.settled = True
        """Whether the last look found what the one before it had found."""
        self._path = path
        self._used: bytes | str = ""
        self._last_look: bytes | str = ""

    def load(self) -> Policy:
        """Read and compile the file.

        :raises ConfigurationError: it cannot be read, or lists mistakes; every problem names the file.
        """
        self._used = self._last_look = found = self._look()
        return self._compile(found)

    def load_if_changed(self) -> Policy | None:
        """The new policy, once what is found has settled: equal at two looks in a row, so no half-written file.

        :raises ConfigurationError: once per change, when the new content is unusable or the file is gone.
        """
        found = self._look()
        self.settled = found == self._last_look
        self._last_look = found
        if not self.settled or found == self._used:
            return None
        self._used = found
        return self._compile(found)

    def _look(self) -> bytes | str:
        """The content, or why there is none."""
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_POLICY_BYTES + 1)
        except OSError as error:
            hint = "" if self._path.is_absolute() else " (set AUTHZ_POLICY_FILE)"
            return f"{error.strerror or error}{hint}"

    def _compile(self, found: bytes | str) -> Policy:
        try:
            text = _text(found)
            policy = parse_policy(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._path}: {problem}" for problem in error.problems) from None
        self.text = text
        return policy


def _text(found: bytes | str) -> str:
    if isinstance(found, str):
        raise ConfigurationError([found])
    if len(found) > MAX_POLICY_BYTES:  # cut off, perhaps in the middle of a character
        raise ConfigurationError([TOO_LARGE])
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(["not UTF-8 text"]) from None


async def watch(
    file: PolicyFile, use: Callable[[Policy], None], reloaded: Callable[[bool], None], hurry: asyncio.Event, *,
    poll_seconds: float = POLL_SECONDS,
) -> None:  # fmt: skip
    """Look for changes until cancelled; ``hurry`` makes the next look come at once, and its outcome be logged.

    :param use: takes a new policy into use.
    :param reloaded: told of each change, whether it was good.
    """
    asked, trouble = False, ""
    while True:
        asked = await _pause(hurry, poll_seconds if file.settled else min(poll_seconds, SETTLE_SECONDS)) or asked
        try:
            policy = await asyncio.to_thread(file.load_if_changed)
            if policy is None:
                if asked and file.settled:  # until then the outcome is open
                    asked = False
                    _tell_unchanged(trouble)
                continue
            use(policy)
        except ConfigurationError as error:
            trouble = "; ".join(error.problems)
            reloaded(False)  # noqa: FBT003
            log.error(  # noqa: TRY400
                "policy not reloaded, the old one serves on: %s. Mend the file, it is read again when it changes; "
                "authz-service check-config says more.", trouble,
            )  # fmt: skip
        except Exception:  # a defect costs this change, not all that come after it
            trouble = "a defect, told in an earlier line"
            reloaded(False)  # noqa: FBT003
            log.exception("policy not reloaded, the old one serves on; this is a defect: please report this line")
        else:
            trouble = ""
            reloaded(True)  # noqa: FBT003
            log.info("policy reloaded: digest %s", policy.digest)
        asked = False


def _tell_unchanged(trouble: str) -> None:
    """:param trouble: why the file is not in use as it is; empty if it is."""
    if not trouble:
        log.info("policy unchanged")
        return
    log.error(
        "policy still not usable, the old one serves on: %s. Mend the file, it is read again when it changes; "
        "authz-service check-config says more.", trouble,
    )  # fmt: skip


async def _pause(hurry: asyncio.Event, seconds: float) -> bool:
    """:returns: whether it was cut short."""
    try:
        async with asyncio.timeout(seconds):
            await hurry.wait()
    except TimeoutError:
        return False
    hurry.clear()
    return True
