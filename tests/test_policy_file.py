import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from authz_service import policy_file
from authz_service.errors import ConfigurationError
from authz_service.policy.loader import MAX_POLICY_BYTES, Policy, parse_policy
from authz_service.policy_file import PolicyFile, watch
from tests.support.service import PATIENCE_SECONDS

ONE, TWO = (f"version: 1\nrules: [{{name: {name}, match: {{path: /a}}, public: true}}]\n" for name in ("one", "two"))
BAD = "version: 2\nrules: []\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE, encoding="utf-8")
    return path


@pytest.fixture
def file(path: Path) -> PolicyFile:
    """A policy file whose first content is in use."""
    file = PolicyFile(path)
    file.load()
    return file


@pytest.fixture
def changed(file: PolicyFile, path: Path) -> PolicyFile:
    """The same, with a second content on disk that nobody has looked at yet."""
    path.write_text(TWO, encoding="utf-8")
    return file


def look(file: PolicyFile, times: int = 1) -> list[str | None]:
    """What each look gives: the rule of a new policy, the mistakes, or nothing."""
    return [_look(file) for _ in range(times)]


def _look(file: PolicyFile) -> str | None:
    try:
        policy = file.load_if_changed()
    except ConfigurationError as error:
        return "; ".join(error.problems)
    return policy.routes.rules[0].name if policy else None


def config_map(directory: Path, version: str, policy: str) -> None:
    """Publish a version as the kubelet does: a new directory, then the link ``..data`` renamed into place."""
    (directory / version).mkdir()
    (directory / version / "policy.yaml").write_text(policy, encoding="utf-8")
    (directory / "..data_tmp").symlink_to(version)
    (directory / "..data_tmp").replace(directory / "..data")


class TestLoad:
    def test_a_good_file_is_a_policy(self, path: Path) -> None:
        assert PolicyFile(path).load().digest == parse_policy(ONE).digest

    def test_each_mistake_names_the_file(self, path: Path) -> None:
        path.write_text("version: 2\nrulez: []", encoding="utf-8")
        with pytest.raises(ConfigurationError) as caught:
            PolicyFile(path).load()
        assert caught.value.problems == (
            f"{path}: version: must be 1, not 2", f"{path}: rules: is missing",
            f"{path}: rulez: there is no such key; did you mean rules?",
        )  # fmt: skip

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"missing\.yaml: No such file or directory$"):
            PolicyFile(tmp_path / "missing.yaml").load()

    def test_a_missing_relative_file_tells_which_variable_names_it(self) -> None:
        with pytest.raises(ConfigurationError, match=r"No such file or directory \(set AUTHZ_POLICY_FILE\)$"):
            PolicyFile(Path("no/such/policy.yaml")).load()

    def test_a_directory_is_no_policy(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="Is a directory"):
            PolicyFile(tmp_path).load()

    def test_other_encodings_are_refused(self, path: Path) -> None:
        path.write_bytes(b"# caf\xe9\n" + ONE.encode())
        with pytest.raises(ConfigurationError, match="not UTF-8 text"):
            PolicyFile(path).load()

    @pytest.mark.parametrize("character", ["x", "\u20ac"], ids=["cut between characters", "cut within one"])
    def test_a_file_that_is_too_large_is_said_to_be_so(self, path: Path, character: str) -> None:
        path.write_text("#" + character * MAX_POLICY_BYTES, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=f"must be at most {MAX_POLICY_BYTES} bytes long"):
            PolicyFile(path).load()


class TestChanges:
    def test_without_a_change_there_is_nothing_new(self, file: PolicyFile) -> None:
        assert look(file, 3) == [None, None, None]

    def test_a_change_is_taken_once_it_has_settled_and_only_once(self, file: PolicyFile, path: Path) -> None:
        path.write_text(TWO, encoding="utf-8")
        assert look(file, 4) == [None, "two", None, None]

    def test_a_half_written_file_is_waited_for(self, file: PolicyFile, path: Path) -> None:
        seen = []
        for end in (0, len(TWO) // 3, len(TWO) // 2, len(TWO)):
            path.write_text(TWO[:end], encoding="utf-8")
            seen += look(file)
        assert seen == [None, None, None, None]
        assert look(file) == ["two"]

    def test_the_same_content_written_anew_is_no_change(self, file: PolicyFile, path: Path) -> None:
        path.unlink()
        path.write_text(ONE, encoding="utf-8")
        assert look(file, 3) == [None, None, None]

    def test_a_change_that_was_taken_back_is_no_change(self, file: PolicyFile, path: Path) -> None:
        path.write_text(TWO, encoding="utf-8")
        assert look(file) == [None]
        path.write_text(ONE, encoding="utf-8")
        assert look(file, 3) == [None, None, None]

    def test_a_bad_file_is_told_of_once(self, file: PolicyFile, path: Path) -> None:
        path.write_text(BAD, encoding="utf-8")
        assert look(file, 4) == [None, f"{path}: version: must be 1, not 2", None, None]

    @pytest.mark.parametrize(("good", "name"), [(ONE, "one"), (TWO, "two")], ids=["the old one", "a new one"])
    def test_a_good_one_after_a_bad_one_takes_over(self, file: PolicyFile, path: Path, good: str, name: str) -> None:
        path.write_text(BAD, encoding="utf-8")
        look(file, 2)
        path.write_text(good, encoding="utf-8")
        assert look(file, 3) == [None, name, None]

    def test_a_file_that_is_gone_is_told_of_once(self, file: PolicyFile, path: Path) -> None:
        path.unlink()
        assert look(file, 4) == [None, f"{path}: No such file or directory", None, None]

    def test_a_file_that_is_gone_for_a_moment_is_not_missed(self, file: PolicyFile, path: Path) -> None:
        path.rename(path.with_suffix(".old"))
        assert look(file) == [None]
        path.with_suffix(".old").rename(path)
        assert look(file, 3) == [None, None, None]

    def test_a_file_that_comes_back_is_taken(self, file: PolicyFile, path: Path) -> None:
        path.unlink()
        look(file, 2)
        path.write_text(ONE, encoding="utf-8")
        assert look(file, 3) == [None, "one", None]

    def test_a_file_that_cannot_be_read_is_told_of_once(self, file: PolicyFile, path: Path) -> None:
        path.unlink()
        path.mkdir()  # unlike permissions, this also stops the superuser
        assert look(file, 4) == [None, f"{path}: Is a directory", None, None]

    def test_content_that_reads_like_a_failure_is_content(self, file: PolicyFile, path: Path) -> None:
        path.unlink()
        look(file, 2)
        path.write_text("No such file or directory", encoding="utf-8")
        assert look(file, 2)[1] is not None


class TestConfigMap:
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Path:
        config_map(tmp_path, "..2026_01_01", ONE)
        (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
        return tmp_path

    @pytest.fixture
    def mounted(self, volume: Path) -> PolicyFile:
        file = PolicyFile(volume / "policy.yaml")
        file.load()
        return file

    def test_a_swapped_link_is_a_change(self, volume: Path, mounted: PolicyFile) -> None:
        config_map(volume, "..2026_01_02", TWO)
        assert look(mounted, 3) == [None, "two", None]

    def test_a_swapped_link_to_the_same_content_is_no_change(self, volume: Path, mounted: PolicyFile) -> None:
        config_map(volume, "..2026_01_02", ONE)
        assert look(mounted, 3) == [None, None, None]

    def test_a_link_that_leads_nowhere_is_told_of(self, volume: Path, mounted: PolicyFile) -> None:
        (volume / "..data").unlink()
        assert look(mounted, 2)[1] == f"{volume / 'policy.yaml'}: No such file or directory"


Outcome = Policy | Exception | Literal["SIGHUP", "unsettled"] | None
"""Of a look; after SIGHUP, at which nothing is found, the next look is one that was asked for."""


class Scripted(PolicyFile):
    """Each look has its outcome; the first one after the last of them sets ``done``."""

    def __init__(self, *outcomes: Outcome) -> None:
        super().__init__(Path("scripted.yaml"))
        self.done = asyncio.Event()
        self.hurry = asyncio.Event()
        self._outcomes = list(outcomes)
        self._loop = asyncio.get_running_loop()

    def load_if_changed(self) -> Policy | None:
        if not self._outcomes:
            self._loop.call_soon_threadsafe(self.done.set)
            return None
        outcome = self._outcomes.pop(0)
        self.settled = outcome != "unsettled"
        if outcome == "SIGHUP":
            self._loop.call_soon_threadsafe(self.hurry.set)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Policy) else None


class Service:
    """Who uses policies and counts reloads."""

    def __init__(self, *, refuses: str = "") -> None:
        self.events: list[str | bool] = []
        self._refuses = refuses

    def use(self, policy: Policy) -> None:
        name = policy.routes.rules[0].name
        if name == self._refuses:
            raise RuntimeError("a defect")
        self.events.append(name)

    def reloaded(self, good: bool) -> None:
        self.events.append(good)


async def watched(service: Service, *outcomes: Outcome) -> None:
    """Watch until each outcome was met."""
    file = Scripted(*outcomes)
    task = asyncio.create_task(watch(file, service.use, service.reloaded, file.hurry, poll_seconds=0))
    done = asyncio.create_task(file.done.wait())
    await asyncio.wait([task, done], return_when=asyncio.FIRST_COMPLETED)
    for each in (task, done):
        each.cancel()
    await asyncio.gather(task, done, return_exceptions=True)
    assert task.cancelled()


class TestWatch:
    async def test_good_and_bad_changes_are_counted_and_looks_without_one_are_not(self) -> None:
        service = Service()
        await watched(service, None, parse_policy(ONE), None, ConfigurationError(["bad"]), None, parse_policy(TWO))
        assert service.events == ["one", True, False, "two", True]

    async def test_a_bad_change_is_logged_with_each_mistake(self, caplog: pytest.LogCaptureFixture) -> None:
        await watched(Service(), ConfigurationError(["first", "second"]))
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage().startswith("policy not reloaded, the old one serves on: first; second.")

    async def test_a_good_change_is_logged_with_its_digest(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        policy = parse_policy(ONE)
        await watched(Service(), policy)
        assert caplog.messages == [f"policy reloaded: digest {policy.digest}"]

    async def test_a_look_that_was_asked_for_is_answered_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        await watched(Service(), None, "SIGHUP", None, None)
        assert caplog.messages == ["policy unchanged"]

    async def test_a_file_that_is_still_bad_is_told_again_if_asked(self, caplog: pytest.LogCaptureFixture) -> None:
        service = Service()
        await watched(service, ConfigurationError(["first", "second"]), None, "SIGHUP", None, None)
        _, again = caplog.records
        assert again.levelno == logging.ERROR
        assert again.getMessage().startswith("policy still not usable, the old one serves on: first; second.")
        assert service.events == [False], "it is one change"

    async def test_a_policy_whose_use_broke_is_not_said_to_be_in_use(self, caplog: pytest.LogCaptureFixture) -> None:
        await watched(Service(refuses="one"), parse_policy(ONE), "SIGHUP", None)
        assert caplog.messages[-1].startswith("policy still not usable, the old one serves on: a defect")

    async def test_a_mended_file_is_no_trouble_any_more(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        await watched(Service(), ConfigurationError(["bad"]), parse_policy(ONE), "SIGHUP", None)
        assert caplog.messages[-1] == "policy unchanged"

    @pytest.mark.parametrize(("outcome", "said"), [
        (parse_policy(TWO), "policy reloaded"), (ConfigurationError(["bad"]), "policy not reloaded"),
        (None, "policy unchanged"),
    ])  # fmt: skip
    async def test_an_answer_waits_until_the_file_has_settled(
        self, outcome: Outcome, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await watched(Service(), "SIGHUP", "unsettled", outcome, None)
        (message,) = caplog.messages
        assert message.startswith(said)

    async def test_a_defect_while_reading_does_not_end_the_watch(self) -> None:
        service = Service()
        await watched(service, RuntimeError("a defect"), parse_policy(TWO))
        assert service.events == [False, "two", True]

    async def test_a_policy_that_cannot_be_used_does_not_end_the_watch_and_counts_as_bad(self) -> None:
        service = Service(refuses="one")
        await watched(service, parse_policy(ONE), parse_policy(TWO))
        assert service.events == [False, "two", True]

    async def test_hurry_makes_the_next_look_come_at_once_and_once(self, changed: PolicyFile) -> None:
        service, hurry, taken = Service(), asyncio.Event(), asyncio.Event()
        changed.load_if_changed()
        hurry.set()
        task = asyncio.create_task(watch(changed, service.use, lambda _: taken.set(), hurry, poll_seconds=3600))
        await taken.wait()
        assert service.events == ["two"]
        assert not hurry.is_set()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def test_a_change_that_was_seen_is_looked_at_again_soon(
        self, changed: PolicyFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policy_file, "SETTLE_SECONDS", 0.001)
        service, hurry, taken = Service(), asyncio.Event(), asyncio.Event()
        hurry.set()
        task = asyncio.create_task(watch(changed, service.use, lambda _: taken.set(), hurry, poll_seconds=3600))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await taken.wait()
        assert service.events == ["two"]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def test_a_file_that_changed_on_disk_comes_into_use(self, changed: PolicyFile) -> None:
        service, taken, hurry = Service(), asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(watch(changed, service.use, lambda _: taken.set(), hurry, poll_seconds=0.001))
        await taken.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert service.events == ["two"]
