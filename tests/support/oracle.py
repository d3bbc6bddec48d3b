"""The global promise of SECURITY.md in one place: what holds for every hostile request, whatever is wrong with it.

Two kinds of requests get in: those that the policy lets in for anyone (public, preflight, shadow), of which chat-api
never hears what the client said about itself, and nobody's else.
"""

import json
from collections.abc import Iterable

from authz_service.errors import Reason
from tests.support.check_requests import Answer
from tests.support.wire import Reply

ALLOWING = {Reason.ALLOWED, Reason.PUBLIC, Reason.CORS_PREFLIGHT}
BODY_MEMBERS = {"error", "message", "request_id", "required"}

Headers = Iterable[tuple[str, str]]


def assert_denied(answer: Answer, *, secrets: Iterable[str] = ()) -> Reason:
    """A hostile request was refused at the Check level, and in no way helped.

    :param secrets: texts of the request that must not come back.
    :returns: the reason, for tests that expect one.
    """
    assert not answer.allowed, f"allowed: {answer.metadata}"
    assert answer.code != 0
    assert not answer.is_error
    reason = _assert_refusal(answer.http_status, answer.headers, answer.body, secrets)
    assert answer.metadata["reason"] == reason
    return reason


def assert_denied_reply(reply: Reply, *, chat_api_calls: int, secrets: Iterable[str] = ()) -> Reason:
    """The same of what a client of Envoy gets, and chat-api was not called.

    :param chat_api_calls: how many requests reached chat-api since this one was sent.
    """
    assert chat_api_calls == 0
    return _assert_refusal(reply.status, reply.headers, reply.text, secrets)


def assert_refused_by_envoy(reply: Reply | None, *, chat_api_calls: int, secrets: Iterable[str] = ()) -> None:
    """Envoy itself found no request in it: nobody was asked, and the connection may have ended without an answer.

    Its answers have a text or no body at all, as any answer to HEAD; the rest of the promise is the same.
    """
    assert chat_api_calls == 0
    if reply is not None:
        assert 400 <= reply.status < 500, reply
        _assert_no_identity(reply.headers)
        _assert_nothing_echoed(reply.headers, reply.text, secrets)


def assert_no_spoof(seen: Headers, injected: Headers) -> None:
    """Of all headers that an upstream could read as an identity, those that the answer injected are there, once.

    :param seen: the headers that reach the upstream.
    :param injected: what the same request without the client's ``x-auth-*`` headers is given.
    """
    identity = [(name, value) for name, value in seen if is_identity(name)]
    assert sorted(identity) == sorted(injected)


def applied(sent: Headers, answer: Answer) -> list[tuple[str, str]]:
    """What Envoy forwards of these headers after an allow: set ones overwrite, then removals (``OkHttpResponse``)."""
    overwritten = {name.lower() for name, _ in answer.headers}
    kept = [(name.lower(), value) for name, value in sent if name.lower() not in overwritten]
    removed = {name.lower() for name in answer.removed}
    return [(name, value) for name, value in [*kept, *answer.headers] if name not in removed]


def is_identity(name: str) -> bool:
    """Whether some server could read this name as one of ours; written down once more, for a second opinion."""
    return name.upper().replace("-", "_").startswith("X_AUTH_")


def _assert_refusal(status: int, headers: Headers, body: str, secrets: Iterable[str]) -> Reason:
    headers = list(headers)
    assert 400 <= status < 500, (status, body)
    content = json.loads(body)
    assert content.keys() <= BODY_MEMBERS, content
    reason = Reason(content["error"])
    assert reason not in ALLOWING
    assert content["message"], "a denial explains itself"
    _assert_challenge(_values(headers, "www-authenticate"))
    assert _values(headers, "content-type") == ["application/json"]
    assert _values(headers, "cache-control") == ["no-store"]
    _assert_no_identity(headers)
    _assert_nothing_echoed(headers, body, secrets)
    return reason


def _assert_challenge(challenges: list[str]) -> None:
    assert len(challenges) <= 1, challenges
    for challenge in challenges:
        assert challenge.startswith("Bearer realm=")
        assert challenge.isascii()
        assert challenge.isprintable()


def _assert_no_identity(headers: Headers) -> None:
    assert [name for name, _ in headers if is_identity(name)] == []


def _assert_nothing_echoed(headers: Headers, body: str, secrets: Iterable[str]) -> None:
    told = "\n".join([*(f"{name}: {value}" for name, value in headers), body])
    for secret in secrets:
        assert secret
        assert secret not in told
        assert json.dumps(secret)[1:-1] not in told


def _values(headers: Headers, wanted: str) -> list[str]:
    return [value for name, value in headers if name.lower() == wanted]

