"""The commands of docs/monitoring.md do what it says."""

import re
import subprocess

import yaml

from tests.support.monitoring import GUIDE, ROOT, RULES

BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def printed(command: str) -> str:
    """What a block prints, less the program that would take it."""
    (block,) = [block for block in BLOCKS if command in block]
    shown = block.replace(command, "cat")
    return subprocess.run(["sh", "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_operators_resource_holds_the_rules_with_links_that_lead_somewhere() -> None:
    resource = yaml.safe_load(printed("kubectl apply -f -"))
    assert (resource["kind"], resource["metadata"]) == ("PrometheusRule", {"name": "authz-service"})
    rules = yaml.safe_dump(resource["spec"])
    assert "RUNBOOK_BASE_URL" not in rules
    assert "https://git.example.com/platform/authz-service/blob/main/docs/runbook.md#authztargetdown" in rules
    assert resource["spec"].keys() == yaml.safe_load(RULES.read_text(encoding="utf-8")).keys() == {"groups"}
