"""Whoever wants to know of decisions is told of each one, and has no say in it."""

import asyncio
import gc
import sys
from collections.abc import Awaitable

import pytest

from authz_service.authorizer import Authorizer
from authz_service.errors import Reason
from authz_service.model import Decision, HttpRequest
from authz_service.transport import check_service, second_look
from authz_service.transport.check import read_check_request
from tests.support.check_level import Checks
from tests.support.check_requests import check_request
from tests.support.decisions import as_values
from tests.support.tokens import ISSUER, token

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
POLICY = """
version: 1
rules:
  - {name: public, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: protected, match: {path: /groups, methods: [GET]}, require: {authenticated: true}}
"""
SHADOW = "  - {name: shadow, match: {path: /shadow}, require: {authenticated: true}, mode: shadow}\n"


class Seen:
    """What a witness was told."""

    def __init__(self) -> None:
        self.decisions: list[tuple[str, Decision]] = []

    def saw(self, request: HttpRequest, decision: Decision) -> None:
        self.decisions.append((request.path, decision))


class Breaking:
    def saw(self, request: HttpRequest, decision: Decision) -> None:
        raise RuntimeError("a defect of a witness")


def bearer(text: str) -> bytes:
    return check_request(path="/groups", headers=[("authorization", f"Bearer {text}")])


async def test_a_witness_sees_each_decision_with_what_the_token_says() -> None:
    seen = Seen()
    checks = Checks(POLICY, witnesses=[seen])
    for message in (check_request(path="/healthz"), bearer(token()), bearer("none"), bearer(token("elsewhere"))):
        await checks.check_patiently(message)
    assert [(path, decision.reason) for path, decision in seen.decisions] == [
        ("/healthz", Reason.PUBLIC), ("/groups", Reason.ALLOWED), ("/groups", Reason.TOKEN_MALFORMED),
        ("/groups", Reason.KEY_NOT_FOUND),
    ]  # fmt: skip
    claims = [decision.claims for _, decision in seen.decisions]
    assert claims[1] is not None
    assert (claims[1].issuer, claims[1].subject) == (ISSUER, "user-1")
    assert (claims[0], claims[2], claims[3]) == (None, None, None)


async def test_a_witness_of_denials_sees_what_is_denied_or_would_be_and_nothing_else() -> None:
    seen = Seen()
    checks = Checks(POLICY + SHADOW, denial_witnesses=[seen])
    passing = [check_request(path="/healthz"), bearer(token())]
    for message in (*passing, bearer("none"), bearer(token("elsewhere")), check_request(path="/shadow")):
        await checks.check_patiently(message)
    assert [decision.reason for _, decision in seen.decisions] == [
        Reason.TOKEN_MALFORMED, Reason.KEY_NOT_FOUND, Reason.TOKEN_MISSING,
    ]  # fmt: skip


def test_what_cannot_be_read_is_no_request_to_tell_of() -> None:
    seen = Seen()
    assert not Checks(POLICY, witnesses=[seen]).check(b"\xff").allowed
    assert seen.decisions == []


def test_while_the_library_for_unusual_messages_cannot_be_loaded_they_are_denied(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checks, unusual = Checks(POLICY), check_request(path="/healthz", raw=True)
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "authz_service.transport.check_message", None)
        assert checks.check(unusual).metadata["reason"] == Reason.INTERNAL_ERROR
    assert "Check failed and the request is denied" in caplog.text
    assert checks.check(unusual).allowed


def test_a_witness_that_breaks_changes_no_answer_and_keeps_nobody_else_from_seeing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Seen()
    checks = Checks(POLICY, witnesses=[Breaking(), seen])
    assert checks.check(bearer(token())).allowed
    assert not checks.check(bearer("none")).allowed
    assert len(seen.decisions) == 2
    assert "A witness of decisions broke" in caplog.text


class Traced:
    """What a trace was told."""

    def __init__(self) -> None:
        self.checks: list[tuple[bytes, Reason]] = []

    def checked(self, traceparent: bytes, decision: Decision, _seconds: float) -> None:
        self.checks.append((traceparent, decision.reason))


async def test_each_check_that_comes_in_a_trace_is_told_of() -> None:
    traced = Traced()
    checks = Checks(POLICY, trace=traced.checked)
    for message in (check_request(path="/healthz"), bearer("none"), bearer(token("elsewhere")), b"\xff"):
        answer = checks.service.check(message, TRACEPARENT)
        if not isinstance(answer, bytes):
            await answer  # for a refresh
    assert checks.check(check_request(path="/healthz")).allowed  # in no trace
    assert traced.checks == [
        (TRACEPARENT, Reason.PUBLIC), (TRACEPARENT, Reason.TOKEN_MALFORMED), (TRACEPARENT, Reason.KEY_NOT_FOUND),
        (TRACEPARENT, Reason.REQUEST_MALFORMED),
    ]  # fmt: skip


async def test_requests_that_wait_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks(POLICY)
    unknown = bearer(token("elsewhere"))
    monkeypatch.setattr(second_look, "MAX_WAITING_BYTES", 3 * len(unknown))
    released = asyncio.Event()

    async def refresh(_issuer: str, _kid: str) -> None:
        await released.wait()

    monkeypatch.setattr(checks.keys, "refresh_for_unknown_kid", refresh)
    asked = [asyncio.create_task(checks.check_patiently(unknown)) for _ in range(4)]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.sleep(0)
    asked.append(asyncio.create_task(checks.check_patiently(unknown)))  # there is room again
    assert checks.check(bearer(token())).allowed, "what need not wait is decided"
    await asyncio.sleep(0)
    released.set()
    answers = await asyncio.gather(*asked[1:])
    assert [answer.metadata["reason"] for answer in answers] == [
        "key_not_found", "key_not_found", "overloaded", "key_not_found",
    ]  # fmt: skip
    assert answers[2].http_status == 503


async def test_checks_that_come_together_are_decided_and_told_of_like_each_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defect = check_request(path="/healthz", headers=[("defect", "of ours")])

    def read(message: bytes) -> HttpRequest:
        if message == defect:
            raise RuntimeError("a defect")
        return read_check_request(message)

    monkeypatch.setattr(check_service, "read_check_request", read)
    messages = [
        bearer(token()), bearer("none"), b"\xff", check_request(path="/healthz"), bearer(token("elsewhere")), defect,
        check_request(path="/nowhere"), bearer(token()),
    ]  # fmt: skip
    seen, traced = (Seen(), Seen()), (Traced(), Traced())
    alone, together = (Checks(POLICY, witnesses=[seen[at]], trace=traced[at].checked) for at in (0, 1))
    calls = [(message, TRACEPARENT) for message in messages]
    one_by_one = [await answered(alone.service.check(*call)) for call in calls]
    at_once = [await answered(each) for each in together.service.check_together(calls, 1.0)]
    assert at_once == one_by_one
    told = [sorted(str((path, as_values(decision))) for path, decision in each.decisions) for each in seen]
    assert told[1] == told[0]
    assert sorted(traced[1].checks) == sorted(traced[0].checks)
    assert sorted(together.metrics.render().splitlines()) == sorted(alone.metrics.render().splitlines())


@pytest.mark.checkout
@pytest.mark.parametrize(
    ("to_read", "to_decide", "answers"), [(0, 0, 10), (0, 4, 3), (3, 0, 2), (3, 3, 2), (20, 20, 1)]
)
def test_of_checks_that_come_together_no_more_are_begun_when_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch, to_read: float, to_decide: float, answers: int
) -> None:
    now = 0.0

    def read(message: bytes) -> HttpRequest:
        nonlocal now
        now += to_read
        return read_check_request(message)

    def authorize(authorizer: Authorizer, request: HttpRequest) -> Decision:
        nonlocal now
        now += to_decide
        return usual(authorizer, request)

    usual = Authorizer.authorize
    monkeypatch.setattr(check_service, "read_check_request", read)
    monkeypatch.setattr(Authorizer, "authorize", authorize)
    checks = Checks(POLICY, timer=lambda: now)
    calls = [(check_request(path="/healthz"), b"")] * 10
    assert len(checks.service.check_together(calls, 10.0)) == answers


async def answered(answer: bytes | Awaitable[bytes]) -> bytes:
    return answer if isinstance(answer, bytes) else await answer


def test_a_trace_that_breaks_changes_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    def breaking(*_told: object) -> None:
        raise RuntimeError("a defect of a trace")

    checks, alone = Checks(POLICY, trace=breaking), Checks(POLICY)
    for message in (bearer(token()), bearer("none")):
        assert checks.service.check(message, TRACEPARENT) == alone.service.check(message)
    assert "Tracing a decision broke" in caplog.text


@pytest.mark.parametrize("text", [None, "none", token(), token(exp=0)], ids=["missing", "malformed", "good", "expired"])
def test_a_denial_leaves_nothing_for_the_garbage_collector(text: str | None) -> None:
    checks = Checks(POLICY.replace("authenticated: true", 'permission: "of nobody"'))
    message = check_request(path="/groups") if text is None else bearer(text)
    assert not checks.check(message).allowed
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            checks.service.check(message)
            checks.service.check_together([(message, b"")] * 2, 1.0)
        assert gc.collect() == 0
    finally:
        gc.enable()
