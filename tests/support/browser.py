"""A headless Chromium, driven by the Chrome DevTools Protocol."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-port=0",
)
_START_S = 60
_WAIT_S = 30


class PageError(Exception):
    """What a script in the page raised."""


class Browser:
    """The connection to one."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.complaints: list[str] = []
        """Of all pages: exceptions, and what was blocked or not found."""

    async def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        call_id = next(self._ids)
        call = {"id": call_id, "method": method, "params": params}
        if session is not None:
            call["sessionId"] = session
        answer = self._answers[call_id] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps(call))
        async with asyncio.timeout(_WAIT_S):
            return await answer

    async def listen(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self._connection:
                self._hear(json.loads(message))

    def _hear(self, message: dict[str, Any]) -> None:
        answer = self._answers.pop(message.get("id", 0), None)
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(PageError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])

    async def open(
        self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False
    ) -> "Page":
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Runtime", "Log", "Page", "DOM"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page.call("Emulation.setEmulatedMedia", features=[scheme])
        await page.call("Page.navigate", url=url)
        await page.wait_for("document.readyState === 'complete'")
        return page


class Page:
    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def call(self, method: str, **params: Any) -> Any:
        return await self._browser.call(method, self._session, **params)

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited. Raises PageError."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise PageError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Returns once the expression is true; fails if it is not in time."""
        deadline_s = time.monotonic() + _WAIT_S
        while not await self.evaluate(condition):
            assert time.monotonic() < deadline_s, f"did not come true: {condition}"
            await asyncio.sleep(0.02)

    async def text(self, selector: str = "body") -> str:
        """What a user reads there; empty if nothing is."""
        text: str = await self.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")
        return text

    async def wait_for_text(self, selector: str, text: str) -> None:
        await self.wait_for(
            f"(document.querySelector({selector!r})?.innerText ?? '').includes({json.dumps(text)})"
        )

    async def type(self, selector: str, text: str) -> None:
        """As on a keyboard."""
        await self.evaluate(f"document.querySelector({selector!r}).focus()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """With the mouse, in the middle of it."""
        node = f"document.querySelector({selector!r})"
        await self.evaluate(f"{node}.scrollIntoView({{block: 'center'}})")
        box = await self.evaluate(f"{node}.getBoundingClientRect().toJSON()")
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at
            )

    async def choose_file(self, selector: str, path: Path) -> None:
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        node = await self.call("DOM.querySelector", nodeId=root, selector=selector)
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])

    async def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of what is in sight, or of the whole page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return b64decode(shot["data"])


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Nothing of it is left on exit."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            url = await _devtools(process, Path(folder, "DevToolsActivePort"))
            async with connect(url, max_size=None, proxy=None) as connection:
                browser = Browser(connection)
                listening = asyncio.create_task(browser.listen())
                try:
                    yield browser
                    await browser.call("Browser.close")  # which writes its files to the end
                    async with asyncio.timeout(_WAIT_S):
                        await process.wait()
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _devtools(process: asyncio.subprocess.Process, file: Path) -> str:
    deadline_s = time.monotonic() + _START_S
    while (address := _address(file)) is None:
        assert process.returncode is None, f"Chromium ended with {process.returncode}"
        assert time.monotonic() < deadline_s, "Chromium does not start"
        await asyncio.sleep(0.05)
    return f"ws://127.0.0.1:{address}"


def _address(file: Path) -> str | None:
    """Chromium writes a line with the port, and one with the path."""
    lines = file.read_text().split() if file.exists() else []
    return "".join(lines) if len(lines) == 2 else None
