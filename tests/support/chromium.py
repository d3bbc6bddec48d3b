"""A real Chromium without a window, driven by the DevTools protocol."""

import asyncio
import base64
import os
import shutil
import signal
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, NamedTuple

from aiohttp import ClientSession, ClientWebSocketResponse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.02
ENDPOINT = "DevTools listening on "
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-port=0",
)  # fmt: skip
DOMAINS = ("Page", "Network", "Log", "Runtime", "Audits", "Accessibility")
KEY_CODES = {"Tab": 9, "Enter": 13}

Json = dict[str, Any]


class Node(NamedTuple):
    """One of the accessibility tree: what a screen reader has to go by."""

    role: str
    name: str
    properties: Json


class Browser:
    """The process, at the other end of a web socket. Make it by :func:`browser`."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers: Iterator[int] = count(1)
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._tabs: dict[str, Tab] = {}

    @asynccontextmanager
    async def tab(self) -> AsyncIterator["Tab"]:
        """An empty page that shares nothing with any other."""
        context = (await self.do("", "Target.createBrowserContext"))["browserContextId"]
        target = (await self.do("", "Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.do("", "Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        self._tabs[session] = tab = Tab(self, session)
        for domain in DOMAINS:
            await tab.do(f"{domain}.enable")
        try:
            yield tab
        finally:
            await self.do("", "Target.disposeBrowserContext", browserContextId=context)

    async def do(self, session: str, method: str, **parameters: Any) -> Json:
        """One command; :returns: its result."""
        number = next(self._numbers)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        to = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **to})
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await answer

    async def listen(self) -> None:
        """Hear answers and events until the browser ends."""
        async for message in self._socket:
            self._hear(message.json())

    def _hear(self, message: Json) -> None:
        answer = self._answers.pop(message.get("id", 0), None)
        tab = self._tabs.get(message.get("sessionId", ""))
        if answer is None or answer.done():
            if tab is not None and "method" in message:
                tab.note(message["method"], message["params"])
        elif "error" in message:
            answer.set_exception(AssertionError(message["error"]))
        else:
            answer.set_result(message["result"])


class Tab:
    """One page, and what happened in it since it was opened."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.requests: list[str] = []
        """URLs that it asked for, whoever they belong to."""
        self.complaints: list[str] = []
        """What its console would show: errors, warnings, violations of the content security policy."""
        self._browser = browser
        self._session = session

    async def do(self, method: str, **parameters: Any) -> Json:
        """One command to this page; :returns: its result."""
        return await self._browser.do(self._session, method, **parameters)

    async def open(self, url: str, *, scripts: bool = True) -> None:
        """Go there; it may still draw when this returns."""
        await self.do("Emulation.setScriptExecutionDisabled", value=not scripts)
        await self.do("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression, which may do what the page itself may do."""
        result = await self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,
        )  # fmt: skip
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await self.evaluate(expression):
            assert time.monotonic() < deadline, f"never {expression}; {self.complaints}"
            await asyncio.sleep(POLL_SECONDS)

    async def text(self, selector: str) -> str:
        """What a person reads there."""
        return str(await self.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''"))

    async def press(self, key: str) -> None:
        """One key, down and up."""
        code = KEY_CODES[key]
        typed = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    async def size(self, width: int, height: int, scale: float = 1) -> None:
        """As if the window had this many CSS pixels."""
        await self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    async def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        await self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def accessible(self) -> list[Node]:
        """The accessibility tree, flat."""
        nodes = (await self.do("Accessibility.getFullAXTree"))["nodes"]
        return [_node(node) for node in nodes if not node["ignored"]]

    async def screenshot(self) -> bytes:
        """PNG, of the window."""
        return base64.b64decode((await self.do("Page.captureScreenshot", format="png"))["data"])

    def note(self, event: str, about: Json) -> None:
        """Something has happened in the page."""
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event == "Log.entryAdded" and about["entry"]["level"] in {"warning", "error"}:
            self.complaints.append(about["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and about["type"] in {"warning", "error", "assert"}:
            self.complaints.append(str(about["args"]))
        elif event in {"Runtime.exceptionThrown", "Audits.issueAdded"}:
            self.complaints.append(str(about))


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser that knows nothing and leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as directory:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM or "chromium", *FLAGS, f"--user-data-dir={directory}/profile", "about:blank",
            env={"HOME": directory, "LANG": "C.UTF-8", "TZ": "UTC", "PATH": os.environ.get("PATH", "")},
            stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            async with _connected(process) as running:
                yield running
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it is many processes
            await process.wait()


@asynccontextmanager
async def _connected(process: Process) -> AsyncIterator[Browser]:
    url = await _endpoint(process)
    async with ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        running = Browser(socket)
        background = [asyncio.create_task(running.listen()), asyncio.create_task(_discard(process))]
        try:
            yield running
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


async def _endpoint(process: Process) -> str:
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := (await process.stderr.readline()).decode():
            if line.startswith(ENDPOINT):
                return line.removeprefix(ENDPOINT).strip()
            said += line
    raise AssertionError(f"chromium ended:\n{said}")


async def _discard(process: Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass


def _node(node: Json) -> Node:
    properties = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
    return Node(str(node["role"]["value"]), str(node.get("name", {}).get("value", "")), properties)
