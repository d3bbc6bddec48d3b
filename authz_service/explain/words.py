"""The finer points of an explanation: which part of a path, a claim or a requirement it was."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from authz_service.errors import AccessRefused, RequestRefused
from authz_service.model import Claims
from authz_service.policy.path import MAX_PATH_BYTES, MAX_SEGMENTS, PCHAR, split_target
from authz_service.policy.requirement import Requirement
from authz_service.token.claims import ClaimRules

SHOWN_LENGTH = 200
TIMES = ("exp", "nbf", "iat")


def printable(text: str) -> str:
    """A client's word as a terminal may show it."""
    short = text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."
    return short if short.isprintable() else ascii(short)[1:-1]


def ambiguity(target: str) -> tuple[str, ...]:
    """What makes a request target unclear; nothing, if it is clear."""
    with suppress(RequestRefused):
        split_target(target)
        return ()
    return tuple(_doubts(target)) or ("a percent-encoding that should not be there, or is no UTF-8",)


def _doubts(target: str) -> Iterator[str]:
    path = target.partition("?")[0]
    segments = path[1:].split("/")
    if not path.startswith("/"):
        yield "it does not begin with /"
    if "//" in path:
        yield "it has an empty segment: //"
    if "#" in target:
        yield "it has a fragment: #"
    if "." in segments or ".." in segments:
        yield "it has a dot segment"
    if strange := sorted(set(path) - set(PCHAR + "/%#")):
        yield f"it has characters that no path has, or that servers differ about: {printable(' '.join(strange))}"
    if len(path) > MAX_PATH_BYTES or len(segments) > MAX_SEGMENTS:
        yield f"it is longer than {MAX_PATH_BYTES} bytes or {MAX_SEGMENTS} segments"
    for segment in segments:
        if "%" in segment and ambiguity_of_encoding(segment):
            yield f"the segment {printable(segment)} is percent-encoded where it must not be, or not as UTF-8"


def ambiguity_of_encoding(segment: str) -> bool:
    """Whether it is the percent-encoding of a segment that is unclear."""
    try:
        split_target(f"/{segment}")
    except RequestRefused:
        return True
    return False


def claim_lines(payload: Mapping[str, object], rules: ClaimRules, now: float) -> Iterator[str]:
    """What a signed token claims, beside what it must."""
    yield f"iss: {_shown(payload.get('iss'))}"
    accepted = ", ".join(sorted(rules.audiences))
    yield f"aud: {_shown(payload.get('aud'))}; accepted: {accepted}"
    for name in TIMES:
        if name in payload:
            yield f"{name}: {_time(payload[name], now)}"
    for name in sorted(payload.keys() - {"iss", "aud", *TIMES}):
        yield f"{printable(name)}: {_shown(payload[name])}"


def requirement_lines(requirement: Requirement, claims: Claims, params: Mapping[str, str]) -> Iterator[str]:
    """Each part of a requirement, and whether it holds by itself."""
    for text, part in _parts(requirement):
        try:
            part.check(claims, params)
        except AccessRefused:
            yield f"{text}: no"
        else:
            yield f"{text}: yes"


def _parts(whole: Requirement) -> Iterator[tuple[str, Requirement]]:
    if whole.authenticated:
        yield "a valid token", Requirement(authenticated=True)
    for permission in sorted(whole.all_permissions):
        yield f"permission {permission}", Requirement(all_permissions=frozenset({permission}))
    if whole.any_permission is not None:
        any_of = ", ".join(sorted(whole.any_permission)) or "none (which grants nobody)"
        yield f"one of the permissions {any_of}", Requirement(any_permission=whole.any_permission)
    for role in sorted(whole.all_roles):
        yield f"role {role}", Requirement(all_roles=frozenset({role}))
    if whole.any_role is not None:
        any_of = ", ".join(sorted(whole.any_role)) or "none (which grants nobody)"
        yield f"one of the roles {any_of}", Requirement(any_role=whole.any_role)
    for claim, parameter in whole.claim_equals_param:
        yield f"claim {claim} equals {{{parameter}}}", Requirement(claim_equals_param=((claim, parameter),))


def _time(value: object, now: float) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return _shown(value)
    try:
        at = datetime.fromtimestamp(value, UTC).isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return _shown(value)
    away = int(value - now)
    return f"{value} ({at}, {f'in {away} s' if away >= 0 else f'{-away} s ago'})"


def _shown(value: object) -> str:
    return "absent" if value is None else printable(json.dumps(value, ensure_ascii=False))
