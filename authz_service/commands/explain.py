"""``authz-service explain``."""

import argparse
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from authz_service.alphabet import HTTP_TOKEN
from authz_service.commands.common import (
    EXIT_FAILED,
    EXIT_OK,
    MAX_FILE_BYTES,
    load,
    print_json,
    read_bytes,
    standard_input,
)
from authz_service.config import Config
from authz_service.errors import ConfigurationError, KeySetRefused, UnknownKeyId
from authz_service.explain.key_sets import KeySets
from authz_service.explain.step import Outcome, Step
from authz_service.explain.walk import Explainer, Explanation
from authz_service.http_url import shown
from authz_service.issuers import TrustedIssuer, trusted_issuers
from authz_service.keys.jwk import KeySet, parse_key_set
from authz_service.limits import limits
from authz_service.model import Allow, Deny, HttpRequest

FEW = 8
"""Lines of one step that are shown whole."""

_LONGEST_METHOD = 32
_MARKS = {Outcome.PASSED: "ok", Outcome.REFUSED: "NO", Outcome.NOTED: "--"}

DESCRIPTION = """\
Decide one request as the service would, and say why: each step of the decision, each rule that was looked at.
Configured by the same environment variables and policy file as serve. Prints no token and no signature.

  authz-service explain GET /api/chat/groups --token @token.txt --jwks jwks.json
  pbpaste | authz-service explain DELETE /api/chat/groups/7 --host chat.example.com --token - --json

Exit codes: 0 allowed (in shadow mode, too); 1 denied; 2 unusable arguments, configuration or keys."""


def add_explain(commands: "argparse._SubParsersAction[Any]") -> None:
    """Announce the command."""
    explain = commands.add_parser(
        "explain", help="say why a request is allowed or denied", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    explain.add_argument("method", metavar="METHOD", help="such as GET")
    explain.add_argument(
        "path", metavar="PATH",
        help="as Envoy forwards it, with slashes merged and dots resolved; the query does not matter",
    )  # fmt: skip
    explain.add_argument(
        "--token", metavar="TOKEN", help="the access token: @FILE reads it from a file, - from standard input (both "
        "keep it out of the shell's history); left out: a request without a token",
    )  # fmt: skip
    explain.add_argument("--host", default="", metavar="HOST", help="the Host header, if the policy lists hosts")
    explain.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a further header; may be repeated"
    )
    explain.add_argument(
        "--jwks", metavar="FILE", help="the key set of the token's issuer, instead of fetching it as the service would"
    )
    explain.add_argument("--policy", metavar="FILE", help="the policy file, in place of AUTHZ_POLICY_FILE")
    explain.add_argument(
        "--now", metavar="TIME", help="decide at another time: Unix seconds, or 2026-01-31T12:00:00Z (UTC if it does "
        "not say)",
    )  # fmt: skip
    explain.add_argument("--json", action="store_true", help="print the explanation as JSON")
    explain.set_defaults(command=_explain)


def _explain(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    config, _, policy = load(environ, arguments.policy)
    request, now = _request(arguments), _now(arguments.now)
    algorithms = frozenset(config.algorithms)
    keys = KeySets(_read_key_set(arguments.jwks, algorithms) if arguments.jwks else None)
    issuers = trusted_issuers(config, policy)
    explainer = Explainer(policy, issuers, keys, algorithms=algorithms, limits=limits(config), now=now)
    try:
        explanation = explainer.explain(request)
    except UnknownKeyId as unknown:
        if not arguments.jwks:
            (issuer,) = (issuer for issuer in issuers if issuer.issuer == unknown.issuer)
            keys.put(issuer.issuer, _fetch_key_set(issuer, config))
        explanation = explainer.explain(request, after_refresh=True)
    if arguments.json:
        print_json({"way": config.way, **_as_json(explanation, now)})
    else:
        if config.way != "local":
            print("USE_OAUTH2_AUTH=false: the service asks the Auth-API. This is what it would decide without that:\n")
        _print(request, explanation)
    return EXIT_OK if isinstance(explanation.decision, Allow) else EXIT_FAILED


def _request(arguments: argparse.Namespace) -> HttpRequest:
    """:raises ConfigurationError: in words that repeat nothing: what stands in a wrong place may be the token."""
    problems = []
    if not HTTP_TOKEN.fullmatch(arguments.method) or len(arguments.method) > _LONGEST_METHOD:
        problems.append("METHOD: must be a method such as GET")
    if not arguments.path.startswith(("/", "*")):
        problems.append("PATH: must begin with /, without scheme and host")
    headers = [tuple(map(str.strip, header.split(":", 1))) for header in arguments.header]
    if any(len(header) != 2 or not HTTP_TOKEN.fullmatch(header[0]) for header in headers):  # noqa: PLR2004 - name and value
        problems.append("--header: must be 'NAME: VALUE'")
    if problems:
        raise ConfigurationError(problems)
    pairs = [(header[0].lower(), header[1]) for header in headers]  # as Envoy passes names on
    if arguments.token is not None:
        pairs.append(("authorization", f"Bearer {_token(arguments.token)}"))
    return HttpRequest(arguments.method, arguments.path, arguments.host, tuple(pairs))


def _token(given: str) -> str:
    """:raises ConfigurationError: it is not one token."""
    token = _read_token(given).strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].lstrip()
    if not token:
        raise ConfigurationError(["--token: is empty; leave it out for a request without a token"])
    if any(map(str.isspace, token)):
        raise ConfigurationError(["--token: has a space or a line break within; give one token, unbroken"])
    return token


def _read_token(given: str) -> str:
    """:raises ConfigurationError: it cannot be read, or is a file's name, which is no token to be denied."""
    if given == "-":
        return standard_input().read(MAX_FILE_BYTES).decode("utf-8", "replace")
    if given.startswith("@"):
        return read_bytes(given[1:]).decode("utf-8", "replace")
    if _is_file(given):
        raise ConfigurationError([f"--token: {given} is a file; write @{given} for the token in it"])
    return given


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, as tokens are; a null character
        return False


def _now(given: str | None) -> float:
    if given is None:
        return time.time()
    try:
        if re.fullmatch(r"[0-9]{1,11}(\.[0-9]+)?", given):
            return float(given)
        at = datetime.fromisoformat(given)
    except ValueError:
        raise ConfigurationError(["--now: must be Unix seconds, or a time such as 2026-01-31T12:00:00Z"]) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _read_key_set(path: str, algorithms: frozenset[str]) -> KeySet:
    try:
        key_set = parse_key_set(read_bytes(path), algorithms)
    except KeySetRefused as refused:
        raise ConfigurationError([f"{path}: {refused}"]) from None
    if not key_set.keys:
        causes = ", ".join(sorted({skipped.cause for skipped in key_set.skipped})) or "it is empty"
        raise ConfigurationError([f"{path}: the key set holds no key that can be used: {causes}"])
    return key_set


def _fetch_key_set(issuer: TrustedIssuer, config: Config) -> KeySet:
    # What only fetching needs is not loaded for an explanation without it.
    import asyncio  # noqa: PLC0415

    from authz_service.keys.assembly import key_set_source  # noqa: PLC0415
    from authz_service.keys.loader import KeySetLoader  # noqa: PLC0415

    async def fetch() -> KeySet:
        source = key_set_source(issuer, config.jwks_fetch_timeout_seconds)
        parse = partial(parse_key_set, algorithms=frozenset(config.algorithms))
        return (await KeySetLoader(source, parse).load()).key_set

    try:
        return asyncio.run(fetch())
    except KeySetRefused as refused:
        raise ConfigurationError([
            f"the keys of {issuer.issuer} cannot be had from {shown(issuer.keys_url)}: {refused} ({refused.cause}); "
            "check AUTH_API_JWKS_URL, or give the key set as a file with --jwks FILE"
        ]) from None


def _as_json(explanation: Explanation, now: float) -> dict[str, Any]:
    decision = explanation.decision
    return {
        "allowed": isinstance(decision, Allow),
        "status": decision.status if isinstance(decision, Deny) else None,
        "reason": decision.reason,
        "rule": decision.rule or None,
        "mode": decision.mode,
        "now": now,
        "headers": dict(explanation.headers),
        "body": json.loads(decision.body) if isinstance(decision, Deny) else None,
        "steps": [
            {"step": step.name, "outcome": step.outcome, "reason": step.reason, "text": step.text,
             "details": list(step.details)}
            for step in explanation.steps
        ],
    }  # fmt: skip


def _print(request: HttpRequest, explanation: Explanation) -> None:
    print(f"{request.method} {explanation.target}\n")
    for step in explanation.steps:
        reason = f"{step.reason}: " if step.reason else ""
        print(f"  {_MARKS[step.outcome]}  {step.name:<12} {reason}{step.text}")
        for line in _shortened(step):
            print(f"        {line}")
    decision = explanation.decision
    by = f"rule {decision.rule}" if decision.rule else "no rule"
    verdict = "ALLOW" if isinstance(decision, Allow) else f"DENY {decision.status}"
    print(f"\n{verdict} {decision.reason}, by {by}, mode {decision.mode}")
    for name, value in explanation.headers:
        print(f"  {name}: {value}")


def _shortened(step: Step) -> list[str]:
    """Many rules about other paths in a row are one line."""
    lines: list[str] = []
    others = [": another path (" in line for line in step.details]
    if step.name != "rule" or others.count(True) <= FEW:
        return list(step.details)
    skipped = 0
    for line, other in [*zip(step.details, others, strict=True), ("", False)]:
        if other:
            skipped += 1
            continue
        if skipped:
            lines.append(f"{skipped} rule{'s' * (skipped > 1)} about other paths")
        skipped = 0
        lines += [line] if line else []
    return lines
