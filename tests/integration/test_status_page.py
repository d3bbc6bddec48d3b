"""The page at ``/`` of the admin port, in a real browser: what it says, to whom, and what it keeps from running."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from authz_service.address import Address
from authz_service.observability.admin import AdminServer
from tests.support.chromium import CHROMIUM, Browser, Tab, browser
from tests.support.status import ISSUER, NOW, comparison, denial, issuer, rule, status

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

DRAWN = "document.getElementById('figures')?.hidden === false"
HOSTILE = {
    "markup": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "an address": "javascript:document.title='owned'",
    "a template": "${document.title='owned'}{{constructor.constructor('document.title=1')()}}",
    "right to left": "\u202egnp.exe\u2066\u05d0\u05d1\u05d2",
    "control characters": "a\x00b\x07c\x1b[31md\x7fe",
    "a lone surrogate": "\ud800",
    "long": "w" * 20_000,
}
CONTRAST = """(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
  };
  const poor = [];
  for (const node of document.body.querySelectorAll('*')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || ['SCRIPT', 'STYLE'].includes(node.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) poor.push(node.textContent.trim());
  }
  return poor;
})()"""
"""WCAG 2.2, success criterion 1.4.3: texts whose contrast is below 4.5."""


class Subject:
    """What the admin port tells about: whatever the test says."""

    ready = True

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said

    def status(self) -> dict[str, Any]:
        return self.said

    def metrics_page(self) -> bytes:
        return b""


class Shown(NamedTuple):
    tab: Tab
    subject: Subject
    url: str
    server: AdminServer

    async def again(self, said: dict[str, Any]) -> None:
        """Have the page ask, and draw something else."""
        self.subject.said = said
        await self.tab.evaluate("refresh()")

    async def verdict(self) -> str:
        return (await self.tab.text("#state")).replace("\n", " ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as running:
        yield running


@asynccontextmanager
async def shown(chromium: Browser, said: dict[str, Any], *, scripts: bool = True) -> AsyncIterator[Shown]:
    subject = Subject(said)
    server = AdminServer(subject, Address("127.0.0.1", 0))
    url = f"http://{await server.start()}/"
    try:
        async with chromium.tab() as tab:
            await tab.size(1280, 900)
            await tab.open(url, scripts=scripts)
            await tab.until(DRAWN if scripts else "document.readyState === 'complete'")
            yield Shown(tab, subject, url, server)
    finally:
        await server.stop()


async def test_all_is_well_at_one_glance(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        assert await page.verdict() == "✓ All is well Requests are decided. There is nothing to do."
        assert await page.tab.evaluate("document.title") == "✓ All is well · authz-service"
        assert await page.tab.text("#age") == "10 min"
        assert await page.tab.text("#p50") == "17 µs"
        assert await page.tab.text("#cache") == "90 %"


@pytest.mark.parametrize(
    ("changes", "verdict", "sentence"),
    [
        ({"ready": False, "issuers": [issuer(ready=False, age_seconds=None)]}, "Not ready", "no usable keys of"),
        ({"ready": False, "issuers": [], "workers": [{"address": "a", "pid": None, "up": False, "restarts": 3}]},
         "Not ready", "1 of 1 worker does not answer"),
        ({"issuers": [issuer(last_error={"cause": "timeout", "message": "no answer within 5 s"})]},
         "Ready, but look at this", "were not fetched: no answer within 5 s (timeout). The last good ones stay"),
        ({"policy": status()["policy"] | {"file_in_use": False}}, "Ready, but look at this",
         "policy file has mistakes"),
        ({"comparison": {"rules": [comparison(looser=2)], "dropped": 0}}, "Ready, but look at this",
         "Looser here than at the Auth-API, for some requests: list-groups"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_first_and_in_words(
    chromium: Browser, changes: dict[str, Any], verdict: str, sentence: str
) -> None:
    async with shown(chromium, status(**changes)) as page:
        assert verdict in await page.verdict()
        assert sentence in await page.verdict()


async def test_a_denial_says_when_why_by_which_rule_and_what_was_asked(chromium: Browser) -> None:
    async with shown(chromium, status(last_denials=[denial(), denial(status=None, message="")])) as page:
        first, second = (await page.tab.text("#denials")).split("\n12 s ago")
        for part in ("12 s ago", "permission_denied", "403", "This needs the permission groups:read.", "list-groups",
                     "GET /api/groups/*", "8d3b-1"):  # fmt: skip
            assert part in first
        assert "would deny" in second
        await page.again(status(last_denials=[]))
        assert await page.tab.text("#denials-empty") == "None."


async def test_the_comparison_says_which_rule_is_ready_and_is_not_there_without_one(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        assert not await page.tab.evaluate("document.getElementById('comparison-sheet').checkVisibility()")
        rules = [comparison(), comparison(rule="get-group", ready=False, reasons=None, looser=1)]
        await page.again(status(comparison={"rules": rules, "rules_left_out": 3, "rules_ready": 4, "dropped": 7}))
        looser, good = (await page.tab.text("#comparison")).split("list-groups")
        assert looser.startswith("get-group"), "what needs a look comes first"
        assert "not yet" in looser
        assert "✓ ready" in good
        assert "token_expired 3" in good
        note = await page.tab.text("#comparison-note")
        assert note.startswith("4 of 5 rules are: ")
        assert "7 not compared" in note


async def test_figures_are_those_of_the_last_minute_once_it_is_known(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        assert await page.tab.text("#denied-note") == "since start; 0.4 % would be"
        later = status(
            up_seconds=90_010.0, latency={"buckets": [[5e-6, 0], [25e-6, 1000], [100e-6, 246], [None, 100]]},
            decisions={"allowed": 1284, "denied": 57, "would_deny": 5, "reasons": {"overloaded": 50}},
        )  # fmt: skip
        await page.again(later)
        assert await page.tab.text("#rate") == "10/s"
        assert await page.tab.text("#denied") == "50 %"
        assert await page.tab.text("#p50") == "> 1 s"
        assert await page.tab.text("#p50-note") == "last 10 s"
        assert "refused as overloaded" in await page.verdict()
        await page.again(status(up_seconds=1.0, decisions=later["decisions"] | {"allowed": 0, "denied": 4}))
        assert await page.tab.text("#denied-note") == "since start; 56 % would be", "another process has its own start"


@pytest.mark.parametrize("kind", HOSTILE)
async def test_whatever_a_client_or_an_issuer_says_is_shown_as_text_and_runs_nowhere(
    chromium: Browser, kind: str
) -> None:
    words = HOSTILE[kind]
    said = status(
        version=words, last_denials=[
            denial(reason=words, rule=words, message=words, method=words, path=words, request_id=words)
        ],
        issuers=[issuer(issuer=words, last_error={"cause": words, "message": words})],
        keys={"age_seconds": 1.0, "keys": [{"issuer": words, "kid": words, "last_used": NOW}]},
        policy={
            **status()["policy"], "digest": words, "mode": words, "rules": [rule(words, path=words, methods=[words])],
        },
        decisions={"allowed": 1, "denied": 1, "would_deny": 0, "reasons": {words: 1, "__proto__": 1}},
        comparison={"rules": [comparison(rule=words, reasons={words: 1})], "dropped": 0},
        workers=[{"address": words, "pid": words, "up": True, "restarts": 0}], configuration={words: words},
    )  # fmt: skip
    async with shown(chromium, said) as page:
        cells = "[...document.querySelectorAll('#denials td span:first-child')].map((cell) => cell.textContent)"
        assert words in await page.tab.evaluate(cells)
        assert await page.tab.evaluate("document.title") == "! Ready, but look at this · authz-service"
        assert await page.tab.evaluate("document.querySelectorAll('script').length") == 1
        assert await page.tab.evaluate("document.querySelectorAll('img, iframe, object, embed').length") == 0
        assert await page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it pushes the page apart"
        assert page.tab.complaints == []


async def test_nothing_leaves_the_origin_and_the_console_stays_silent(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        await page.again(status())
        network = [url for url in page.tab.requests if not url.startswith("data:")]
        assert sorted(set(network)) == [page.url, f"{page.url}status"]
        assert page.tab.complaints == []


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.innerHTML = '<b>markup</b>'",
        "eval('1')",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'globalThis.ran = true'}))",
        "fetch('http://127.0.0.1:9/', {mode: 'no-cors'})",
        "new Promise((good, bad) => { const i = new Image(); i.onload = good; i.onerror = bad; i.src = '/status'; })",
    ],
)  # fmt: skip
async def test_what_a_defect_of_the_page_could_do_the_browser_refuses(chromium: Browser, attempt: str) -> None:
    async with shown(chromium, status()) as page:
        violated = (
            "new Promise((resolve) => { addEventListener('securitypolicyviolation', (event) => resolve(true));"
            f"(async () => {attempt})().catch(() => 0) }})"
        )
        assert await page.tab.evaluate(violated)
        assert await page.tab.evaluate("globalThis.ran") is None


async def test_without_javascript_it_says_where_the_status_is(chromium: Browser) -> None:
    async with shown(chromium, status(), scripts=False) as page:
        root = (await page.tab.do("DOM.getDocument", depth=-1))["root"]
        found = await page.tab.do("DOM.querySelectorAll", nodeId=root["nodeId"], selector="noscript a")
        links = [(await page.tab.do("DOM.getAttributes", nodeId=node))["attributes"] for node in found["nodeIds"]]
        assert links == [["href", "/status"], ["href", "/readyz"]]
        assert page.tab.requests == [page.url]


async def test_the_keyboard_reaches_all_that_can_be_used_in_the_order_of_the_page(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        order = []
        for _ in range(4):
            await page.tab.press("Tab")
            order.append(await page.tab.evaluate("document.activeElement.innerText"))
            assert await page.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert order == ["Pause", "Configuration", "/status", "/metrics"]


async def test_the_page_can_be_paused_and_resumed_by_the_keyboard(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        await page.tab.press("Tab")
        await page.tab.press("Enter")
        assert await page.tab.evaluate("paused") is True
        assert await page.tab.text("#pause") == "Resume"
        await page.tab.press("Enter")
        assert await page.tab.evaluate("paused") is False


async def test_a_service_that_does_not_answer_is_said_and_so_is_how_old_the_rest_is(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        await page.server.stop()
        await page.tab.evaluate("refresh()")
        words = "The service does not answer on this port. What follows is of 2026-11-18 11:06:40 UTC."
        assert await page.verdict() == f"✕ No answer {words}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "changes", [{}, {"ready": False}, {"issuers": [issuer(last_error={"cause": "a", "message": "b"})]}],
    ids=["good", "bad", "warning"],
)  # fmt: skip
async def test_every_text_is_legible_by_day_and_by_night(
    chromium: Browser, scheme: str, changes: dict[str, Any]
) -> None:
    said = status(comparison={"rules": [comparison(looser=1), comparison(ready=False)], "dropped": 1}, **changes)
    async with shown(chromium, said) as page:
        await page.tab.prefer(scheme)
        light = await page.tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128")
        assert light == (scheme == "light")
        assert await page.tab.evaluate(CONTRAST) == []


async def test_it_fits_a_narrow_window_and_wide_tables_scroll_by_the_keyboard(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        await page.tab.size(400, 800)
        await page.tab.until("document.querySelector('#denials').closest('.scroll').tabIndex === 0")
        assert await page.tab.evaluate("document.documentElement.scrollWidth <= 400")


async def test_a_screen_reader_finds_landmarks_names_and_table_headers(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        nodes = await page.tab.accessible()
        roles = [node.role for node in nodes]
        landmarks = ["banner", "main", "contentinfo"]
        assert [role for role in roles if role in landmarks] == landmarks
        regions = [node.name for node in nodes if node.role == "region"]
        assert regions == ["Figures", "Last denials", "Keys", "Policy", "Configuration"]
        state = next(node for node in nodes if node.role == "status")
        assert state.properties["live"] == "polite"
        named = {"button", "link", "table", "columnheader", "rowheader", "heading", "region"}
        assert [node for node in nodes if node.role in named and not node.name] == []
        headers = [node.name for node in nodes if node.role == "columnheader"][:5]
        assert headers == ["When", "Why", "Rule", "Request", "Request id"]
        assert ISSUER in [node.name for node in nodes if node.role == "rowheader"]


async def test_the_state_is_announced_when_it_changes_and_only_then(chromium: Browser) -> None:
    async with shown(chromium, status()) as page:
        await page.tab.evaluate(
            "globalThis.changes = 0, new MutationObserver((all) => changes += all.length)"
            ".observe(document.getElementById('state'), {childList: true, characterData: true, subtree: true}), 0"
        )
        await page.again(status(now=NOW + 5, up_seconds=90_005.0))
        assert await page.tab.evaluate("changes") == 0
        await page.again(status(ready=False))
        assert await page.tab.evaluate("changes") > 0
