"""What a policy says that its author hardly means. Pure: rules in, findings out.

Two rules that match the same request are no mistake by themselves: the first one decides, and an exception before its
general rule is how policies are written. Found are rules that never decide, and openings that nobody would see.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from authz_service.finding import Finding, Severity
from authz_service.model import Mode
from authz_service.policy.overlap import PatternIndex, covers
from authz_service.policy.routes import COMMON_METHODS, Rule

SHORTEST_MISSPELLING = 5
"""Characters; shorter words differ by one letter without being misspellings of each other."""
EVERYBODY = 100
"""Percent."""


def lint_rules(rules: Sequence[Rule], known_permissions: frozenset[str] | None = None) -> list[Finding]:
    """All findings about these rules, in the order of the file.

    :param known_permissions: all that the issuer grants; ``None``: not known, so that only misspellings are found.
    """
    findings: list[Finding] = []
    index = PatternIndex()
    for number, rule in enumerate(rules):
        earlier = [rules[found] for found in index.overlapping(rule.pattern)]
        findings += _about_order(place(number, rule), rule, earlier)
        findings += _about_share(place(number, rule), rule)
        index.add(number, rule.pattern)
    return [*findings, *_about_permissions(rules, known_permissions)]


def lint_default(rules: Sequence[Rule], default_mode: Mode) -> list[Finding]:
    """Rules that are enforced while ``defaults`` let pass what no rule is found for."""
    if default_mode is not Mode.SHADOW:
        return []
    return [
        Finding(
            "enforced_beside_open_default", Severity.WARNING, place(number, rule),
            "is enforced, but by mode: shadow in defaults whatever no rule is found for passes: a method that it does "
            "not list, a path that can be read in two ways, another host; chat-api may take such a request for one "
            "that this rule protects",
            "say mode: enforce in defaults, and mode: shadow in the rules that are not to be enforced yet",
        )
        for number, rule in enumerate(rules) if not rule.public and rule.mode is Mode.ENFORCE
    ]  # fmt: skip


def place(number: int, rule: Rule) -> str:
    """Where a rule stands, as mistakes in a policy say it."""
    return f"rules[{number}] ({rule.name})"


def methods_of(rule: Rule) -> frozenset[str]:
    """The methods that it decides; RFC 9110 section 9.3.2: HEAD follows GET."""
    return rule.methods | {"HEAD"} if "GET" in rule.methods else rule.methods


def _about_order(where: str, rule: Rule, earlier: Sequence[Rule]) -> Iterator[Finding]:
    """``earlier``: the rules before it that share a path with it."""
    taken = {method: other for other in reversed(earlier) if covers(other.pattern, rule.pattern)
             for method in rule.methods & methods_of(other)}  # fmt: skip
    if len(taken) == len(rule.methods):
        yield _unreachable(where, taken)
    else:
        # Left-out methods mean "all others" behind a rule for some; only methods that were written down surprise.
        if taken and rule.methods != COMMON_METHODS:
            yield _shadowed(where, taken)
        if not rule.public:
            yield from _opened(where, rule, earlier)
    if rule.cors_preflight:
        yield from _preflight(where, earlier)


def _about_share(where: str, rule: Rule) -> Iterator[Finding]:
    share = rule.enforce_percent
    if not rule.public and rule.mode is Mode.ENFORCE and share is not None and share < EVERYBODY:
        yield Finding(
            "enforced_for_a_share", Severity.WARNING, where,
            f"is enforced for {share} % of callers only, mode: enforce or not: others pass who would be denied",
            "leave enforce_percent out, here and in defaults, to enforce it for everybody; until then say mode: shadow",
        )  # fmt: skip


def _unreachable(where: str, taken: dict[str, Rule]) -> Finding:
    names = _names(taken.values())
    opened = ", and lets everyone through" if any(other.public for other in taken.values()) else ""
    return Finding(
        "rule_unreachable", Severity.ERROR, where,
        f"never decides: {names} before it covers all that it matches{opened}",
        f"move it before {names}, or remove one of them",
    )  # fmt: skip


def _shadowed(where: str, taken: dict[str, Rule]) -> Finding:
    names, methods = _names(taken.values()), ", ".join(sorted(taken))
    return Finding(
        "rule_shadowed", Severity.WARNING, where, f"never decides {methods}: {names} before it covers that",
        f"move it before {names}, or leave {methods} out of it",
    )  # fmt: skip


def _opened(where: str, rule: Rule, earlier: Iterable[Rule]) -> Iterator[Finding]:
    """Public rules that take requests away from a protected one without being plain exceptions within it."""
    for other in earlier:
        shared = methods_of(rule) & methods_of(other)
        if other.public and shared and not covers(rule.pattern, other.pattern):
            whole = covers(other.pattern, rule.pattern)
            yield Finding(
                "public_overlaps_protected", Severity.ERROR if whole else Severity.WARNING, where,
                f"the public rule {other.name} before it lets everyone through to {'all' if whole else 'some'} of its "
                f"paths ({', '.join(sorted(shared))})",
                f"move it before {other.name}, or make the path of {other.name} narrower",
            )


def _preflight(where: str, earlier: Iterable[Rule]) -> Iterator[Finding]:
    for other in earlier:
        if not (other.public or other.cors_preflight) and "OPTIONS" in other.methods:
            yield Finding(
                "preflight_past_rule", Severity.WARNING, where,
                f"its cors_preflight lets preflight requests pass also where {other.name} before it, which has none, "
                "asks OPTIONS requests for a token",
                f"set cors_preflight in {other.name} too, leave OPTIONS out of its methods, or make this path narrower",
            )


def _about_permissions(rules: Sequence[Rule], known: frozenset[str] | None) -> Iterator[Finding]:
    uses = Counter(permission for rule in rules for permission in sorted(_permissions(rule)))
    for number, rule in enumerate(rules):
        for permission in sorted(_permissions(rule)):
            if known is not None:
                if permission not in known:
                    yield _unknown(place(number, rule), permission, known)
            elif other := _meant(permission, uses):
                yield Finding(
                    "permission_misspelled", Severity.WARNING, place(number, rule),
                    f"{permission!r} is used here only, and looks like a misspelling of {other!r}",
                    "correct it; or list all permissions that there are in a file, and name that with --permissions",
                )


def _unknown(where: str, permission: str, known: Iterable[str]) -> Finding:
    close = get_close_matches(permission, known, n=1)
    advice = f"did you mean {close[0]!r}? otherwise" if close else "correct it, or"
    return Finding(
        "permission_unknown", Severity.ERROR, where,
        f"{permission!r} is not among the known permissions, so that nobody has it",
        f"{advice} add it to the file that --permissions names",
    )  # fmt: skip


def _permissions(rule: Rule) -> frozenset[str]:
    asked = rule.requirement
    return frozenset() if asked is None else asked.all_permissions | (asked.any_permission or frozenset())


def _meant(permission: str, uses: Counter[str]) -> str | None:
    """The permission that this one, used once, is a typing mistake away from; of two that are used once, the first."""
    if uses[permission] > 1 or len(permission) < SHORTEST_MISSPELLING:
        return None
    used_before = True
    for other in uses:  # in the order of the file
        if other == permission:
            used_before = False
        elif (used_before or uses[other] > 1) and _one_slip(permission, other):
            return other
    return None


def _one_slip(one: str, other: str) -> bool:
    """Whether they differ in case only, or by one letter more, less, changed, or swapped with its neighbour."""
    if one.lower() == other.lower():
        return True
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    if (a[:1] + b[:1]).isdigit():  # v1 and v2 are two things
        return False
    swapped = a[:2] == b[:2][::-1] and a[2:] == b[2:]
    return swapped or a[1:] == b[1:] or a[1:] == b or a == b[1:]


def _names(rules: Iterable[Rule]) -> str:
    return " and ".join(dict.fromkeys(rule.name for rule in rules))
