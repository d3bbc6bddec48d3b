"""One step of a decision, in words."""

from enum import StrEnum
from typing import NamedTuple

from authz_service.errors import Reason


class Outcome(StrEnum):
    """How a step came out."""

    PASSED = "passed"
    REFUSED = "refused"
    NOTED = "noted"
    """Decides nothing by itself."""


class Step(NamedTuple):
    """One step, in words."""

    name: str
    outcome: Outcome
    text: str
    details: tuple[str, ...] = ()
    reason: Reason | None = None
    """Of a refusal."""
