"""The snapshot: believed whole or not at all; replaced whole or not at all."""

import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from authz_service.keys.snapshot import MAX_FILE_BYTES, Restored, Snapshot
from tests.support.tokens import ISSUER, NOW, jwks, signing_key

DOCUMENT = jwks(signing_key("a"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def snapshot(path: Path, issuer: str = ISSUER) -> Snapshot:
    return Snapshot(path, issuer)


def content(path: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(path.read_bytes())
    return written


class TestRoundTrip:
    def test_what_was_written_is_read_with_its_age(self, path: Path) -> None:
        snapshot(path).write(DOCUMENT, NOW)
        assert snapshot(path).read(NOW + 90) == Restored(DOCUMENT, 90)

    def test_a_document_in_any_language_survives(self, path: Path) -> None:
        document = '{"keys": [], "é\u2028": "\\u0000"}'.encode()
        snapshot(path).write(document, NOW)
        assert snapshot(path).read(NOW) == Restored(document, 0)

    def test_the_largest_document_of_the_worst_bytes_still_fits(self, path: Path) -> None:
        document = b"\x01" * (256 * 1024)
        snapshot(path).write(document, NOW)
        assert snapshot(path).read(NOW) == Restored(document, 0)

    def test_the_newest_replaces_the_one_before(self, path: Path) -> None:
        snapshot(path).write(b"1", NOW)
        snapshot(path).write(b"2", NOW + 1)
        assert snapshot(path).read(NOW + 1) == Restored(b"2", 0)

    def test_nobody_else_can_read_or_write_it(self, path: Path) -> None:
        snapshot(path).write(DOCUMENT, NOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_nothing_else_is_left_beside_it(self, path: Path) -> None:
        snapshot(path).write(DOCUMENT, NOW)
        assert list(path.parent.iterdir()) == [path]


def test_what_was_discarded_is_not_there_any_more(path: Path) -> None:
    snapshot = Snapshot(path, ISSUER)
    snapshot.write(b"{}", NOW)
    snapshot.discard()
    snapshot.discard()
    assert snapshot.read(NOW) is None


def test_one_that_cannot_be_removed_is_for_people_to_remove(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    Snapshot(path, ISSUER).discard()
    assert "cannot be removed" in caplog.text


def test_no_file_is_no_news(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert snapshot(path).read(NOW) is None
    assert caplog.records == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def changed(**fields: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**content(path), **fields}))

    return change


def without(field: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        members: Mapping[str, object] = {name: value for name, value in content(path).items() if name != field}
        path.write_text(json.dumps(members))

    return change


def world_writable(path: Path) -> None:
    path.chmod(0o602)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def replaced(octets: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(octets)

    return change


NOT_BELIEVED: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, "it is damaged"),
    "empty": (replaced(b""), "it is damaged"),
    "binary": (replaced(bytes(range(256))), "it is damaged"),
    "another document": (changed(document=jwks(signing_key("b")).decode()), "it is damaged"),
    "another digest": (changed(sha256="0" * 64), "it is damaged"),
    "no digest": (without("sha256"), "it is damaged"),
    "no age": (without("fetched_at"), "it is damaged"),
    "no version": (without("version"), "it is damaged"),
    "a later version": (changed(version=2), "it is damaged"),
    "an unknown member": (changed(extra=1), "it is damaged"),
    "age as a string": (changed(fetched_at=str(NOW)), "it is damaged"),
    "age that is no number": (changed(fetched_at=float("nan")), "it is damaged"),
    "age without end": (changed(fetched_at=float("-inf")), "it is damaged"),
    "another issuer": (changed(issuer="https://other.test"), "it belongs to another issuer"),
    "from the future": (changed(fetched_at=NOW + 1), "it is dated in the future"),
    "world-writable": (world_writable, "everybody may write it"),
    "a directory": (directory, "it is not a regular file"),
    "a FIFO": (fifo, "it is not a regular file"),
    "a symlink to itself": (link_loop, "Too many levels of symbolic links"),
    "too large": (replaced(b" " * (MAX_FILE_BYTES + 1)), "it is larger than"),
    "nested too deeply": (replaced(b"[" * 100_000), "it is damaged"),
}


@pytest.mark.parametrize("name", NOT_BELIEVED)
def test_what_cannot_be_believed_is_ignored_and_said(name: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tamper, why = NOT_BELIEVED[name]
    snapshot(path).write(DOCUMENT, NOW)
    tamper(path)
    assert snapshot(path).read(NOW) is None
    assert f"keys.json ignored: {why}" in caplog.text


def test_a_file_of_another_user_is_not_believed(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(path).write(DOCUMENT, NOW)
    somebody_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody_else)
    assert snapshot(path).read(NOW) is None
    assert "it belongs to another user" in caplog.text


class TestDiskFaults:
    def test_a_directory_that_is_not_there_is_logged_and_decisions_go_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot(tmp_path / "missing" / "keys.json").write(DOCUMENT, NOW)
        assert "not written: No such file or directory" in caplog.text

    def test_a_full_disk_leaves_the_old_file_and_no_rubbish(
        self, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot(path).write(DOCUMENT, NOW)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        snapshot(path).write(b"new", NOW + 1)
        assert "not written: No space left on device" in caplog.text
        assert snapshot(path).read(NOW) == Restored(DOCUMENT, 0)
        assert list(path.parent.iterdir()) == [path]

    def test_a_symlink_in_its_place_is_replaced_not_followed(self, path: Path, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        path.symlink_to(victim)
        snapshot(path).write(DOCUMENT, NOW)
        assert victim.read_bytes() == b"precious"

    def test_a_document_that_is_not_text_is_not_written(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        snapshot(path).write(b"\xff", NOW)
        assert "not written: UnicodeDecodeError" in caplog.text
        assert not path.exists()


class TestBackground:
    async def test_it_is_written_in_another_thread(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        threads = []
        monkeypatch.setattr(Snapshot, "write", lambda *_: threads.append(threading.current_thread()))
        saving = snapshot(path)
        saving.save_soon(DOCUMENT, NOW)
        assert saving._doing is not None
        await saving._doing
        assert threads != [threading.current_thread()]

    async def test_while_one_is_written_only_the_newest_waits(self, path: Path) -> None:
        release, runs = asyncio.Event(), []

        async def slow_disk(write: Callable[[], None]) -> None:
            runs.append(write)
            await release.wait()
            write()

        saving = Snapshot(path, ISSUER, run=slow_disk)
        for number in range(5):
            saving.save_soon(str(number).encode(), NOW)
            await asyncio.sleep(0)
        release.set()
        assert saving._doing is not None
        await saving._doing
        assert len(runs) == 2
        assert saving.read(NOW) == Restored(b"4", 0)

    async def test_stopping_does_not_wait_for_a_disk_that_hangs(self, path: Path) -> None:
        async def hanging_disk(_: Callable[[], None]) -> None:
            await asyncio.Event().wait()

        saving = Snapshot(path, ISSUER, run=hanging_disk)
        saving.save_soon(DOCUMENT, NOW)
        await asyncio.sleep(0)
        await saving.stop()

    async def test_stopping_before_anything_was_saved_is_fine(self, path: Path) -> None:
        await snapshot(path).stop()
