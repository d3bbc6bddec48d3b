"""What is built is valid: nobody has to look again whether a denial denies, or claims are somebody's."""

from types import MappingProxyType

import pytest

from authz_service.errors import Reason
from authz_service.model import Allow, Claims, Decision, Deny, Mode

NOTHING: frozenset[str] = frozenset()


def denial(status: int = 403, body: str = "{}") -> Deny:
    return Deny(Reason.PERMISSION_DENIED, "a-rule", Mode.ENFORCE, status, (), body)


def test_the_same_words_are_one_verdict() -> None:
    words = Reason.PERMISSION_DENIED, "a-rule", Mode.SHADOW
    allow = Allow(*words)
    assert allow.verdict is Allow(*words, kid="another").verdict
    assert (allow.verdict.outcome.answer, allow.reason, allow.rule, allow.mode) == ("allow", *words)
    others: list[Decision] = [
        Deny(*words, 403, (), "{}"), Allow(Reason.ROLE_DENIED, "a-rule", Mode.SHADOW),
        Allow(Reason.PERMISSION_DENIED, "b-rule", Mode.SHADOW), Allow(Reason.PERMISSION_DENIED, "a-rule", Mode.ENFORCE),
    ]  # fmt: skip
    assert len({allow.verdict, *(other.verdict for other in others)}) == 5


@pytest.mark.parametrize("status", [0, 200, 302, 399, 600])
def test_a_denial_has_no_status_that_lets_through(status: int) -> None:
    with pytest.raises(ValueError, match=f"a denial cannot have status {status}"):
        denial(status)


@pytest.mark.parametrize("status", [400, 599])
def test_a_denial_has_a_status_of_refusal(status: int) -> None:
    assert denial(status).status == status


def test_a_denial_says_something() -> None:
    with pytest.raises(ValueError, match="explains itself"):
        denial(body="")


@pytest.mark.parametrize(("issuer", "subject"), [("", "user-1"), ("http://issuer", "")])
def test_claims_are_somebodys(issuer: str, subject: str) -> None:
    with pytest.raises(ValueError, match="name an issuer and a subject"):
        Claims(issuer, subject, 1, NOTHING, NOTHING, MappingProxyType({}))


def test_claims_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="read-only"):
        Claims("http://issuer", "user-1", 1, NOTHING, NOTHING, {})
