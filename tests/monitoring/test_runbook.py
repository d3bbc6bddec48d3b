"""Whoever an alert wakes finds its page in the runbook, and on it what it means, where to look and what to do."""

import re
from pathlib import Path

import pytest

import authz_service
from authz_service.errors import FetchFailure
from authz_service.keys.discovery import DiscoveryFault
from authz_service.keys.jwk import DocumentFault
from authz_service.keys.loader import NO_USABLE_KEYS
from authz_service.observability.metrics import INVALID_TOKEN_REASONS
from tests.support.monitoring import RUNBOOK, alerts

SEARCHED_FOR = {
    "JWKS fetch failed": "JWKS fetch failed",
    "Key ID 'xyz' not found": "Key ID %s not found",
    "Token validation failed": "Token validation failed",
}
"""In the runbook, and in the line of the log."""
LINK = re.compile(r"\]\(#([^)]+)\)")


def sections(chapter: str) -> dict[str, str]:
    """The sections of one chapter, by their headings."""
    chapters = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = [found for found in chapters if found.startswith(f"{chapter}\n")]
    return dict(section.split("\n", 1) for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:])


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


ALERTS = sections("Alerts")
LOG_LINES = sections("Search the log for")


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    assert list(ALERTS) == [alert.name for alert in alerts()]


@pytest.mark.parametrize("heading", ALERTS)
def test_a_section_says_what_it_means_where_to_look_and_what_to_do(heading: str) -> None:
    assert re.findall(r"^- \*\*(\w+)\*\*: \S", ALERTS[heading], re.MULTILINE) == ["Means", "Look", "Do"]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_and_links_to_its_section(alert: tuple[str, dict[str, dict[str, str]]]) -> None:
    name, rule = alert
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"RUNBOOK_BASE_URL/docs/runbook.md#{anchor(name)}"


def test_links_within_the_runbook_lead_somewhere() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert set(LINK.findall(text)) <= headings


@pytest.mark.parametrize(("heading", "line"), SEARCHED_FOR.items(), ids=SEARCHED_FOR)
def test_what_people_search_for_is_a_heading_here_and_a_line_of_the_log(heading: str, line: str) -> None:
    assert heading in LOG_LINES
    sources = Path(authz_service.__file__).parent.rglob("*.py")
    assert any(line in source.read_text(encoding="utf-8") for source in sources)


def test_slowness_has_its_section() -> None:
    assert "Performance regression" in LOG_LINES


@pytest.mark.parametrize("cause", sorted({*FetchFailure, *DocumentFault, *DiscoveryFault, NO_USABLE_KEYS}))
def test_each_cause_of_a_failed_refresh_is_explained(cause: str) -> None:
    assert f"`{cause}`" in LOG_LINES["JWKS fetch failed"]


@pytest.mark.parametrize("reason", sorted(INVALID_TOKEN_REASONS))
def test_each_reason_to_refuse_a_token_is_explained(reason: str) -> None:
    assert f"`{reason}`" in LOG_LINES["Token validation failed"]
