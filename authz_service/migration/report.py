"""What a replay finds: answers that flip, and requests of which it cannot be told."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from authz_service.errors import Reason
from authz_service.migration.logged import Answer, Logged

EXAMPLES = 3
NAMED_LINES = 20
"""Of the damaged ones."""


class Why(StrEnum):
    """Why it cannot be told what the policy would make of a request."""

    NOT_LOOKED_AT = "its token was not looked at then, and would be now"
    CLAIM_NOT_LOGGED = "the log lacks a claim that the rule compares: the policy of then did not"
    ISSUERS = "its token's issuer or audience was refused then, and the policy has issuers of its own"
    PATH = "its path was ambiguous then, perhaps in what is not logged"
    SERVICE = "the service could not decide then, for a reason that no policy changes"


class Direction(StrEnum):
    """How an answer changes: what is permitted, enforced or not, or what the client sees."""

    LOOSER = "looser"
    STRICTER = "stricter"


class Flip(NamedTuple):
    """Answers that change in the same way."""

    direction: Direction
    before: Answer
    after: Answer

    @property
    def rule(self) -> str:
        """The one that would decide, or else the one that did."""
        return self.after.rule or self.before.rule


class Unknown(NamedTuple):
    """Requests that cannot be decided again."""

    why: Why
    rule: str
    """That would decide, if there is one."""


class Disagreement(NamedTuple):
    """Requests of which a comparison came to another end, by the policy of then."""

    rule: str
    reason: Reason
    other_reason: Reason


class Example(NamedTuple):
    """One of them."""

    line: int
    logged: Logged


@dataclass(slots=True)
class Found:
    """How many, and the first few."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, line: int, logged: Logged) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(line, logged))


@dataclass(slots=True)
class Report:
    """What came of it."""

    lines: int = 0
    decided: int = 0
    damaged: int = 0
    damaged_lines: list[int] = field(default_factory=list)
    """The numbers of the first few."""
    flips: dict[Flip, Found] = field(default_factory=dict)
    unknown: dict[Unknown, Found] = field(default_factory=dict)
    disagreements: dict[Disagreement, Found] = field(default_factory=dict)
    """Told by lines of their own, which are no decisions besides."""

    def total(self, direction: Direction) -> int:
        """How many requests change so."""
        return sum(found.count for flip, found in self.flips.items() if flip.direction is direction)

    def add_damaged(self, line: int) -> None:
        """One that cannot be read."""
        self.damaged += 1
        if len(self.damaged_lines) < NAMED_LINES:
            self.damaged_lines.append(line)
