"""Rules for tests, built from a template alone."""

from authz_service.policy.requirement import Requirement
from authz_service.policy.routes import COMMON_METHODS, Match, Rule
from authz_service.policy.template import parse_path, parse_prefix

ANYONE = Requirement(authenticated=True)


def rule(template: str, *methods: str, name: str = "", cors_preflight: bool = False) -> Rule:
    """A rule named by its template; ``/a/*`` is the prefix ``/a/``."""
    is_prefix = template.endswith("*")
    return Rule(
        name=name or template, pattern=parse_prefix(template[:-1]) if is_prefix else parse_path(template),
        methods=frozenset(methods) or COMMON_METHODS, requirement=ANYONE, cors_preflight=cors_preflight,
    )  # fmt: skip


def matched(match: Match | None) -> str | None:
    """The name of the rule that decides, if there is one."""
    return match.rule.name if match else None
