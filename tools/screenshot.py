"""The pictures of the status page in docs/images: a real service behind a real Envoy, after some traffic.

Needs Chromium; without it nothing is drawn, and this says so.
"""

import asyncio
import random
import sys
from pathlib import Path

from demo.stage import POLICY
from tests.support.chromium import CHROMIUM, Browser, browser
from tests.support.gateway import Gateway, gateway

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH, HEIGHT = 1100, 900
REQUESTS = 1500
SEED = 7

GROUPS = "/api/chat/groups"
USUAL = (
    ("full", "GET", GROUPS), ("full", "GET", f"{GROUPS}/7"), ("full", "POST", GROUPS),
    ("full", "GET", f"{GROUPS}/7/messages"), ("full", "POST", f"{GROUPS}/7/messages"),
)  # fmt: skip
ODD = (
    ("limited", "GET", f"{GROUPS}/12"), ("expired", "GET", GROUPS), (None, "GET", GROUPS),
    ("limited", "DELETE", f"{GROUPS}/7"), ("full", "GET", "/api/chat/gruops"), ("full", "GET", "/api/chat/a;b=c"),
)  # fmt: skip
SHARE_OF_ODD = 0.01


async def _traffic(running: Gateway) -> None:
    """Some of each kind, mostly the usual ones."""
    chosen = random.Random(SEED)  # noqa: S311 - it picks examples
    tokens = {user: running.issuer.mint(user) for user in ("full", "limited", "expired")}
    for number in range(REQUESTS):
        odd = number < len(ODD) or chosen.random() < SHARE_OF_ODD
        user, method, path = ODD[number % len(ODD)] if odd else chosen.choice(USUAL)
        await running.get(path, token=tokens[user] if user else None, method=method)


async def _draw(chromium: Browser, url: str, scheme: str, to: Path, traffic: Gateway) -> None:
    async with chromium.tab() as tab:
        await tab.size(WIDTH, HEIGHT)
        await tab.prefer(scheme)
        await tab.open(url)
        await tab.until("document.getElementById('figures')?.hidden === false")
        await _traffic(traffic)
        await tab.evaluate("refresh()")
        await tab.size(WIDTH, await tab.evaluate("document.documentElement.scrollHeight"))
        await asyncio.to_thread(to.write_bytes, await tab.screenshot())
        print(f"docs/images/{to.name}")


async def _main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    policy = POLICY.read_text(encoding="utf-8").replace(
        'match: {path: "/api/chat/groups/{group_id}/messages", methods: [POST]}',
        'match: {path: "/api/chat/groups/{group_id}/messages", methods: [POST]}\n    enforce_percent: 25',
    )
    async with gateway(policy=policy) as running, browser() as chromium:
        await _traffic(running)
        for scheme, name in (("light", "status-page.png"), ("dark", "status-page-dark.png")):
            await _draw(chromium, f"{running.authz.admin_url}/", scheme, IMAGES / name, running)


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("chromium is not installed: no pictures were drawn")
    asyncio.run(_main())
