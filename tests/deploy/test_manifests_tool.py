"""A policy under which no pod would become ready is told where the manifests are made, not by a rollout that hangs."""

import pytest

from authz_service.policy.loader import parse_policy
from authz_service.policy_file import PolicyFile
from tools.manifests import POLICY, probe_problem

PUBLIC = "{name: health, match: {path: /healthz}, public: true}"
PROTECTED = "{name: all, match: {prefix: /}, require: {authenticated: true}}"
HOSTS = "hosts: [chat.example.com]"


@pytest.mark.parametrize(("policy", "advice"), [
    (f"version: 1\nrules: [{PUBLIC}]", []),
    (f"version: 1\nrules: [{PROTECTED}]", ["public rule"]),
    (f"version: 1\n{HOSTS}\nrules: [{PUBLIC}]", ["httpHeaders"]),
    (f"version: 1\n{HOSTS}\nrules: [{PROTECTED}]", ["public rule", "httpHeaders"]),
])  # fmt: skip
def test_what_the_readiness_probe_lacks_is_said(policy: str, advice: list[str]) -> None:
    problem = probe_problem(parse_policy(policy))
    assert bool(problem) is bool(advice)
    assert all(words in problem for words in advice)


def test_nothing_is_said_of_the_policy_that_is_shipped() -> None:
    assert probe_problem(PolicyFile(POLICY).load()) == ""
