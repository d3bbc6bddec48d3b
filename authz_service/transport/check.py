"""``CheckRequest`` bytes -> ``HttpRequest``; ``Decision`` -> ``CheckResponse`` bytes, written by hand.

Envoy decides on ``CheckResponse.status.code`` alone and reads an absent one as "allow", so each answer carries it.
"""

import logging
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Final

from authz_service.alphabet import HTTP_TOKEN, Alphabet
from authz_service.errors import InternalError, Reason
from authz_service.kept import NUMBERS, Outcome, Unspoken
from authz_service.model import Allow, Decision, Deny, Headers, HttpRequest, Verdict
from authz_service.response.challenge import deny
from authz_service.response.identity_headers import EVERY_ALLOW
from authz_service.transport.check_fields import Fields, Unusual, malformed, read_fields
from authz_service.transport.protobuf_wire import LENGTHS, delimited, number, tag

OK, INVALID_ARGUMENT, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 0, 3, 7, 13, 14, 16
"""``google.rpc.Code``."""

CODES: Final = {400: INVALID_ARGUMENT, 401: UNAUTHENTICATED, 403: PERMISSION_DENIED, 503: UNAVAILABLE}
FIRST_SERVER_ERROR: Final = 500

KNOWN: Final = 1024
"""How many encoded parts are kept, of each kind; what clients choose can push out the others, and no more."""

# Fields, by their numbers in protos/ and google/protobuf/struct.proto.
STATUS: Final = tag(1)
"""This and the next four of ``CheckResponse``."""
DENIED_RESPONSE: Final = tag(2)
OK_RESPONSE: Final = tag(3)
DYNAMIC_METADATA: Final = tag(4)
ERROR_RESPONSE: Final = tag(5)
CODE: Final = 1
"""Of ``Status`` and of ``HttpStatus``."""
HTTP_STATUS: Final = tag(1)
"""Of ``DeniedHttpResponse``."""
HEADERS: Final = tag(2)
"""Of ``DeniedHttpResponse`` and of ``OkHttpResponse``."""
BODY: Final = tag(3)
"""Of ``DeniedHttpResponse``."""
HEADERS_TO_REMOVE: Final = tag(5)
"""Of ``OkHttpResponse``."""
HEADER: Final = tag(1)
"""Of ``HeaderValueOption``; the next two are its numbers."""
OVERWRITE: Final = number(3, 2)
"""``append_action: OVERWRITE_IF_EXISTS_OR_ADD``."""
KEPT_EMPTY: Final = OVERWRITE + number(4, 1)
"""And ``keep_empty_value: true``."""
HEADER_KEY: Final = tag(1)
HEADER_VALUE: Final = tag(2)
"""Of ``HeaderValue``."""
FIELDS: Final = tag(1)
"""Of ``google.protobuf.Struct``: a map, each entry a message with two fields."""
FIELD_NAME: Final = tag(1)
FIELD_VALUE: Final = tag(2)
STRING_VALUE: Final = tag(3)
"""Of ``google.protobuf.Value``."""
REASON, RULE, MODE, SUB, KID = (delimited(FIELD_NAME, name) for name in (b"reason", b"rule", b"mode", b"sub", b"kid"))
NO_SUB: Final = delimited(FIELDS, SUB + delimited(FIELD_VALUE, delimited(STRING_VALUE, b"")))

_VISIBLE: Final = Alphabet(bytes(range(0x21, 0x7F)))
"""All that most values of headers are made of."""
_value: Final = itemgetter(1)
new_tuple: Final = tuple.__new__  # a named tuple's constructor is a function in Python; one is built for each request
OK_STATUS: Final = delimited(STATUS, number(CODE, OK))
log = logging.getLogger(__name__)


class _Unwritable(Exception):
    """A header of an answer has a name or a value that is none; does not repeat it."""


def read_check_request(message: bytes) -> HttpRequest:
    """What Envoy asks about, in either encoding of headers; fields that are not named in ``protos/`` are skipped.

    :raises RequestRefused: ``request_malformed``, for whatever is not a ``CheckRequest`` about an HTTP request.
    """
    try:
        own_id, method, path, host, headers = read_fields(message)
    except Unusual:
        own_id, method, path, host, headers = _read_in_general(message)
    if not method:
        raise malformed()  # neither HTTP/1.1 nor HTTP/2 has such a request; so reads a CheckRequest without `http`
    request_id = ""
    for name, value in headers:
        if name == "x-request-id":
            request_id = value
            break
    # Envoy's `id` is a number of its own for the stream; the header is what logs and the client see.
    return new_tuple(HttpRequest, (method, path, host, tuple(headers), request_id or own_id))


def _read_in_general(message: bytes) -> Fields:
    from authz_service.transport.check_message import read_message  # noqa: PLC0415 - memory, for the few that need it

    return read_message(message)


def write_check_response(decision: Decision) -> bytes:
    """The answer for Envoy. Never raises: a decision that cannot be written becomes an ``internal_error`` denial."""
    try:
        return _write_allow(decision) if isinstance(decision, Allow) else _write_deny(decision)
    except _Unwritable as unwritable:
        # TRY400: the trace of an exception that was raised ten lines below tells nothing.
        log.error(  # noqa: TRY400
            "Instead of the answer of rule %r the request is denied: %s. This is a defect: please report this line.",
            decision.rule, unwritable,
        )  # fmt: skip
        return _write_deny(_defect(decision))


def _defect(decision: Decision) -> Deny:
    """Made of constants, so it can always be written."""
    return deny(
        InternalError(Reason.INTERNAL_ERROR, "Internal error."), rule=decision.rule, mode=decision.mode,
        claims=decision.claims, kid=decision.kid,
    )  # fmt: skip


class _Rules:
    """The rules of all verdicts there are, encoded, in one piece; none is dropped, as none of :data:`NUMBERS` is.

    In objects of their own they would take twice the memory, and be in the processor's caches less often.
    """

    def __init__(self) -> None:
        self._octets = b""
        self._ends = [0]
        """By the number of the verdict, which comes to stand between that of the one before and its own."""

    def of(self, verdict: Verdict) -> bytes:
        """As it stands in an answer."""
        if not verdict.end:
            self._place(verdict)
        return self._octets[verdict.begin : verdict.end]

    def _place(self, verdict: Verdict) -> None:
        ends, parts = self._ends, [self._octets]
        new = list(islice(reversed(NUMBERS), len(NUMBERS) - len(ends) + 1))  # from the end: what is known may be long
        for _, name in reversed(new):
            part = _encode_metadata(RULE, name)
            parts.append(part)
            ends.append(ends[-1] + len(part))
        self._octets = b"".join(parts)
        verdict.begin, verdict.end = ends[verdict.number], ends[verdict.number + 1]


_rules: Final = _Rules()


def _write_allow(allow: Allow) -> bytes:
    """Put together from parts that were encoded before: the fields of a message may follow each other in any order."""
    verdict, set_headers, remove_headers, spoofed, _, _, identity = allow
    headers, unspoken = identity.headers, identity.unspoken
    if set_headers is EVERY_ALLOW and remove_headers is unspoken.names:
        changes = unspoken.encoded or _encode_unspoken(unspoken)
    else:
        encode_changes = _encode_changes if spoofed else _known_changes
        changes = encode_changes(set_headers, remove_headers)
    how, which = _encoded(verdict)
    who = identity.metadata or _encode_who(allow.subject, allow.kid)
    return b"".join((
        OK_STATUS, OK_RESPONSE, LENGTHS[len(headers) + len(changes)], headers, changes,
        DYNAMIC_METADATA, LENGTHS[len(how) + len(which) + len(who)], how, which, who,
    ))  # fmt: skip


def encode_identity(headers: Headers, subject: str, kid: str) -> tuple[bytes, bytes]:
    """One caller's part of each answer, see :class:`authz_service.model.Identity`.

    :raises InternalError: for headers that are none; the rooms below have refused them.
    """
    try:
        return _encode_headers(headers), _encode_who(subject, kid)
    except _Unwritable as unwritable:
        log.error("A caller cannot be announced: %s. This is a defect: please report this line.", unwritable)  # noqa: TRY400
        raise InternalError(Reason.INTERNAL_ERROR, "Internal error.") from None


def _encode_changes(set_headers: Headers, names: tuple[str, ...]) -> bytes:
    """``OkHttpResponse`` with these headers, and those ``headers_to_remove``.

    Names to remove are the client's own words. Envoy holds no header whose name is no token: nothing to remove there.
    And it removes after it sets: a name in both lists would reach nobody.
    """
    written = {name.lower() for name, _ in set_headers}
    removed = [name for name in names if name.lower() not in written and HTTP_TOKEN.fullmatch(name)]
    return _encode_headers(set_headers) + b"".join([delimited(HEADERS_TO_REMOVE, name.encode()) for name in removed])


_known_changes: Final = lru_cache(KNOWN)(_encode_changes)
"""Where no client's words are among the names: of theirs a thousand would be tens of megabytes, kept for good."""


def _encode_unspoken(unspoken: Unspoken) -> bytes:
    unspoken.encoded = _encode_changes(EVERY_ALLOW, unspoken.names)
    return unspoken.encoded


def _encoded(verdict: Verdict) -> tuple[bytes, bytes]:
    """Its outcome and its rule."""
    outcome = verdict.outcome
    return outcome.encoded or _encode_outcome(outcome), _rules.of(verdict)


def _encode_outcome(outcome: Outcome) -> bytes:
    outcome.encoded = _encode_metadata(REASON, outcome.reason) + _encode_metadata(MODE, outcome.mode)
    return outcome.encoded


def _encode_who(subject: str, kid: str) -> bytes:
    return (_encode_metadata(SUB, subject) if subject else NO_SUB) + _encode_kid(kid)


@lru_cache(KNOWN)
def _encode_kid(kid: str) -> bytes:
    return _encode_metadata(KID, kid)


def _encode_metadata(name: bytes, text: str) -> bytes:
    """One field of a ``google.protobuf.Struct``, for Envoy's access log."""
    value = delimited(STRING_VALUE, _printable(text).encode())
    return delimited(FIELDS, name + FIELD_VALUE + LENGTHS[len(value)] + value)


def _write_deny(denial: Deny) -> bytes:
    """Put together like an allow: of a denial, too, little but the body is new each time."""
    verdict, status, headers, text, _, kid = denial
    how, which = _encoded(verdict)
    who = _encode_who(denial.subject, kid)
    body = text.encode("utf-8", "backslashreplace")  # less lone surrogates
    refusal = _encode_refusal(status, headers) + BODY + LENGTHS[len(body)]
    return b"".join((
        _encode_status(status), LENGTHS[len(refusal) + len(body)], refusal, body,
        DYNAMIC_METADATA, LENGTHS[len(how) + len(which) + len(who)], how, which, who,
    ))  # fmt: skip


@lru_cache(KNOWN)
def _encode_refusal(status: int, headers: Headers) -> bytes:
    """``DeniedHttpResponse`` without its body."""
    return delimited(HTTP_STATUS, number(CODE, status)) + _encode_headers(headers)


@lru_cache(KNOWN)
def _encode_status(status: int) -> bytes:
    """``google.rpc.Status``, whatever the status of a denial never OK; and the tag of the response that follows."""
    is_error = status >= FIRST_SERVER_ERROR  # Envoy counts an error, not a denial
    code = CODES.get(status, INTERNAL if is_error else PERMISSION_DENIED)
    return delimited(STATUS, number(CODE, code)) + (ERROR_RESPONSE if is_error else DENIED_RESPONSE)


def _encode_headers(headers: Headers) -> bytes:
    """The headers of an ``OkHttpResponse`` or a ``DeniedHttpResponse``: a ``HeaderValueOption`` each.

    Each new caller comes through here with all its headers, so all that does not depend on a value's text is kept.
    """
    if not _VISIBLE.spells("".join(map(_value, headers))):
        for name, value in headers:
            _check_value(name, value)
    return b"".join([
        _before_value(name, len(value)) + value.encode("ascii") + (OVERWRITE if value else KEPT_EMPTY)
        for name, value in headers
    ])  # fmt: skip


@lru_cache(KNOWN)
def _before_value(name: str, length: int) -> bytes:
    """What of a header comes before a value of this length, in octets."""
    if not HTTP_TOKEN.fullmatch(name):
        raise _Unwritable("the name of a header is no token")
    header = delimited(HEADER_KEY, name.encode()) + HEADER_VALUE + LENGTHS[length]
    option = HEADER + LENGTHS[len(header) + length] + header
    return HEADERS + LENGTHS[len(option) + length + len(OVERWRITE if length else KEPT_EMPTY)] + option


def _check_value(name: str, value: str) -> None:
    """RFC 9110 section 5.5, less what it only tolerates: visible ASCII with spaces inside.

    A CR LF that gets as far as Envoy splits the response.
    """
    if not (value.isascii() and value.isprintable() and value[:1] != " " and value[-1:] != " "):
        raise _Unwritable(f"the value of {name} cannot be a header's")


def _printable(text: str) -> str:
    """Line breaks would forge log lines, lone surrogates cannot be encoded: both are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
