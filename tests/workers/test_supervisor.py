"""In which order workers are told what they decide by: each message finds what it rests on."""

import asyncio
from pathlib import Path

import pytest

from authz_service.config import load_config
from authz_service.policy_file import PolicyFile
from authz_service.workers.supervisor import Supervisor
from tests.support.recording_link import RecordingLink

CONFIG = load_config({})
(ENDPOINT,) = CONFIG.listen
BEFORE, AFTER = "https://before.test", "https://after.test"


def policy(issuer: str) -> str:
    return f"version: 1\nissuers: [{{issuer: {issuer}}}]\nrules: []\n"


class World:
    """A supervisor of one worker that hears all and says nothing. Nobody is asked for keys."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.write_text(policy(BEFORE), encoding="utf-8")
        self._file = PolicyFile(path)
        self.supervisor = Supervisor(CONFIG, self._file, self._file.load(), (ENDPOINT,))
        self.link = RecordingLink()
        (member,) = self.supervisor._members
        member._link = self.link

    def use(self, text: str) -> None:
        self._path.write_text(text, encoding="utf-8")
        self.supervisor._use(self._file.load())

    def heard(self) -> list[tuple[str, str]]:
        """What it was told since it was asked last, and of which issuer."""
        heard, self.link.sent = self.link.sent, []
        return [(message["what"], message.get("issuer", "")) for message in heard]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "policy.yaml")


def test_a_new_worker_is_to_serve_when_it_knows_all(world: World) -> None:
    world.supervisor._publish()
    world.heard()
    world.supervisor.greet(world.link, ENDPOINT)
    assert world.heard() == [("keys", BEFORE), ("policy", ""), ("serve", "")]


def test_a_policy_follows_what_is_known_of_the_keys_of_its_issuers(world: World) -> None:
    world.supervisor._publish()
    world.heard()
    world.use(policy(AFTER))
    assert world.heard() == [("keys", AFTER), ("gone", BEFORE), ("policy", "")]


async def test_that_a_key_was_looked_for_follows_what_was_found(world: World) -> None:
    """The other way round, whoever waits for the key would be refused for want of it a moment before it comes."""
    world.supervisor.told("seek", {"issuer": BEFORE, "kids": ["b"]}, world.link)
    await asyncio.gather(*world.supervisor._tasks)
    assert world.heard() == [("keys", BEFORE), ("sought", BEFORE)]


def test_what_has_not_changed_is_not_told_again(world: World) -> None:
    world.supervisor._publish()
    world.heard()
    world.supervisor._publish()
    assert world.heard() == []
