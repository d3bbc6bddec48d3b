"""Values that are made once and read for each request. Their fields are set as they are made, and stay.

They are compiled, which tuples with names of their own and frozen dataclasses are not: see ``hatch_build.py``.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal

from authz_service.errors import PERMITTED, Reason

Answer = Literal["allow", "deny"]


class Mode(StrEnum):
    """Whether a rule's verdict is carried out."""

    __hash__ = str.__hash__  # as of Reason

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Claims:
    """What a good token claims (RFC 7519 section 4.1): verified here, or in the words of the Auth-API."""

    __slots__ = ("expires_at", "issuer", "payload", "permissions", "roles", "subject")

    def __init__(  # noqa: PLR0917 - what a claims set has
        self, issuer: str, subject: str, expires_at: int, permissions: frozenset[str], roles: frozenset[str],
        payload: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """:raises ValueError: they name nobody. :raises TypeError: the payload can be changed."""
        if not issuer or not subject:
            raise ValueError("verified claims name an issuer and a subject")
        if type(payload) is not MappingProxyType:
            raise TypeError("verified claims are read-only")
        self.issuer: Final = issuer
        self.subject: Final = subject
        self.expires_at: Final = expires_at
        """Unix seconds; 0 where the Auth-API vouches for the token and does not say."""
        self.permissions: Final = permissions
        self.roles: Final = roles
        self.payload: Final = payload
        """What the verifier read, lists in the token's order; of a remembered caller, what rules compare. Read-only."""


class Unspoken:
    """Names of headers that a caller could have and has not: one object for all callers who lack the same."""

    __slots__ = ("encoded", "names")

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.encoded = b""
        """With what every allow sets, as the transport likes it: kept here once that has been asked for."""
        self.names: Final = names
        """Sorted."""


NOTHING_UNSPOKEN: Final = Unspoken()


class Identity:
    """What one caller is announced as, encoded once for all the answers that carry it, as the transport likes it."""

    __slots__ = ("headers", "metadata", "unspoken")

    def __init__(self, unspoken: Unspoken = NOTHING_UNSPOKEN, headers: bytes = b"", metadata: bytes = b"") -> None:
        self.unspoken: Final = unspoken
        self.headers: Final = headers
        """Set on the request."""
        self.metadata: Final = metadata
        """``sub`` and ``kid``, for the access log."""


class Outcome:
    """How a request ended, whatever the rule: one object for all that ended so. Made by :func:`outcome_of`."""

    __slots__ = ("answer", "encoded", "mode", "permitted", "reason")

    def __init__(self, answer: Answer, reason: Reason, mode: Mode) -> None:
        self.encoded = b""
        """As the transport likes it: kept here once that has been asked for, for it is the same each time."""
        self.permitted: Final = reason in PERMITTED
        """Whether it passes even in a rule that is enforced."""
        self.reason: Final = reason
        self.answer: Final = answer
        """To Envoy; in shadow mode "allow" whatever the reason."""
        self.mode: Final = mode


outcome_of = lru_cache(maxsize=None)(Outcome)
"""``outcome_of(answer, reason, mode)``: there are a few dozen."""


class Verdict:
    """What a decision comes to, in the words of metrics, logs and Envoy's access log.

    :func:`verdict_of` makes them, and :class:`.Match` is one; those that say the same have the same number.
    """

    __slots__ = ("begin", "end", "number", "outcome", "rule_name")

    def __init__(self, outcome: Outcome, rule_name: str) -> None:
        self.outcome: Final = outcome
        self.number: Final = NUMBERS.setdefault((outcome, rule_name), len(NUMBERS))
        """Its place in :data:`NUMBERS`."""
        self.begin = self.end = 0
        """Where its rule stands among all that the transport has encoded: kept here once that has been asked for."""
        self.rule_name: Final = rule_name
        """Empty: the request came to none."""


NUMBERS: Final[dict[tuple[Outcome, str], int]] = {}
"""Outcome and rule of all verdicts that there ever were, each with its number, from 0.

All are kept, as the metrics with these words are. No client can add to them: they are a few for each name that a rule
ever had.
"""


def _verdict(answer: Answer, reason: Reason, rule_name: str, mode: Mode) -> Verdict:
    return Verdict(outcome_of(answer, reason, mode), rule_name)


verdict_of = lru_cache(maxsize=None)(_verdict)
"""``verdict_of(answer, reason, rule_name, mode)``: one object for the same words."""
