"""The text of a policy file."""

import yaml

from authz_service.errors import ConfigurationError, RequestRefused
from authz_service.policy.loader import Policy, parse_policy
from authz_service.policy.path import split_target
from authz_service.policy.routes import NEVER_METHODS
from authz_service.policy.yaml_reader import read_yaml
from tests.fuzz.issuer import assert_plain

MAX_LENGTH = 4096

PROBES = ("/", "/healthz", "/api/chat/groups", "/api/chat/groups/7/", "/api/orgs/org-1/x", "/a%20b", "/%61")
METHODS = ("GET", "HEAD", "DELETE", "OPTIONS", "get", "CONNECT", "TRACE", "", "M-SEARCH")


def fuzz(data: bytes) -> bool:
    """Accepted is a policy that every YAML reader reads alike, and that answers for any path without a surprise."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False  # the file's reader refuses it
    try:
        policy = parse_policy(text)
    except ConfigurationError as error:
        assert_told(error)
        return False
    assert_read_alike(text)
    assert_sound(policy)
    for path in PROBES:
        assert_answers(policy, path)
    return True


def assert_told(error: ConfigurationError) -> None:
    """At least one line, and each mistake on one line of its own."""
    assert error.problems
    for problem in error.problems:
        assert problem
        assert problem.isprintable(), f"{problem!r} would forge a line or upset a terminal"


def assert_read_alike(text: str) -> None:
    """By PyYAML's own safe loader, the one in Python; its parser refuses some tabs that the one in C lets pass."""
    given, problems = read_yaml(text)
    assert not problems
    try:
        other = yaml.load(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return
    assert other == given


def assert_sound(policy: Policy) -> None:
    """Each rule says whom it lets through, and has a name of its own."""
    rules = policy.routes.rules
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.public or rule.requirement is not None for rule in rules)
    assert all(NEVER_METHODS.isdisjoint(rule.methods) for rule in rules)
    headers = [header for _, header in policy.identity_headers]
    assert len(set(headers)) == len(headers)
    assert all(header.isascii() and header.startswith("x-auth-") and header == header.lower() for header in headers)
    assert not {"x-auth-contract", "x-auth-shadow"} & set(headers)


def assert_answers(policy: Policy, path: str) -> None:
    """With a rule that covers the request, with none, or with a refusal."""
    for method in METHODS:
        try:
            match = policy.routes.match(method, split_target(path))
        except RequestRefused as refused:
            assert_plain(refused)
            continue
        assert match is None or method in match.rule.methods | {"HEAD"}
        assert match is None or method not in NEVER_METHODS
    policy.hosts.permits("chat.example.com:8443")
