"""An audit that asked nobody is no all-clear."""

import json

import pytest

from tools.audit import Verdict, read

GOOD = {"name": "hpack", "version": "4.2.0", "vulns": []}
BAD = {"name": "jose", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1", "2.0"]}]}
UNMENDED = {"name": "jose", "version": "1.0", "vulns": [{"id": "CVE-2", "fix_versions": []}]}
SKIPPED = {"name": "yarl", "skip_reason": "not found"}


def report(*dependencies: object) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


@pytest.mark.parametrize(("found", "verdict"), [
    pytest.param(report(GOOD), Verdict(), id="nothing known"),
    pytest.param(report(GOOD, BAD), Verdict(("jose 1.0: CVE-1, mended in 1.1, 2.0",)), id="vulnerable"),
    pytest.param(report(UNMENDED), Verdict(("jose 1.0: CVE-2, mended in no version yet",)), id="not mended yet"),
    pytest.param(report(GOOD, SKIPPED), Verdict(unknown=("yarl: not found",)), id="not asked"),
])  # fmt: skip
def test_a_report_is_read(found: str, verdict: Verdict) -> None:
    assert read(found, "") == verdict


@pytest.mark.parametrize("found", ["", "{}", "no JSON"])
def test_without_a_report_nothing_is_known(found: str) -> None:
    assert read(found, "a warning\nERROR: cannot connect\n") == Verdict(unknown=("ERROR: cannot connect",))
    assert read(found, "").unknown
