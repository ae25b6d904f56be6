"""A headless Chromium, driven by the DevTools protocol as a person would use it: with mouse, keys and eyes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60.0
"""Seconds after which something will not come any more; no test waits that long when all is well."""
KEYS = {
    "Enter": (13, "\r"), "Escape": (27, ""), "ArrowUp": (38, ""), "ArrowLeft": (37, ""), "ArrowRight": (39, ""), "Tab": (9, ""),
}  # fmt: skip


def find_chromium() -> str | None:
    """Path of a Chromium: what OCTAVO_TEST_CHROMIUM names, or the system's."""
    return os.environ.get("OCTAVO_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """The browser's process; `address` is where its DevTools listen."""

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="octavo-test-chromium-", ignore_cleanup_errors=True)
        profile = Path(self._folder.name)
        flags = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run", "--disable-gpu"]
        flags += ["--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions", "--lang=en-US"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        self._log = (profile / "log").open("wb")
        self._process = subprocess.Popen(
            [program, *flags, "about:blank"], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._port_file = profile / "DevToolsActivePort"
        self.address = ""

    def __enter__(self) -> Self:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            lines = self._port_file.read_text().split("\n") if self._port_file.exists() else []
            if len(lines) >= 2:
                self.address = f"ws://127.0.0.1:{lines[0]}{lines[1]}"
                return self
            time.sleep(0.05)
        self.__exit__(None, None, None)
        raise RuntimeError("Chromium did not start")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()


async def eventually(condition: Callable[[], object]) -> None:
    """Until a condition outside the page holds."""
    for _ in range(int(PATIENCE / 0.02)):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.02)
    raise TimeoutError("it never came")


class Page:
    """A tab with storage of its own.

    Attributes:
        complaints: errors of scripts, the console and the content security policy; failed requests are not among them.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._session: str | None = None
        self._context = ""
        self.complaints: list[str] = []
        self._listener = asyncio.ensure_future(self._listen())

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        reply = self._replies[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(message)
        answer = await asyncio.wait_for(reply, PATIENCE)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def _listen(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                self._replies.pop(data["id"]).set_result(data)
            else:
                await self._on_event(data["method"], data["params"])

    async def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["source"] != "network":
            if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{params['entry']['source']}: {params['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            self._number += 1
            accept = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            self._replies[self._number] = asyncio.get_running_loop().create_future()
            await self._socket.send_json({**accept, "sessionId": self._session})

    async def open(self) -> None:
        self._context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        await self.resize(1200, 800)

    async def close(self) -> None:
        await self.call("Target.disposeBrowserContext", browserContextId=self._context)
        self._listener.cancel()

    async def goto(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.wait("document.documentElement.dataset.loaded === 'true'")

    async def reload(self) -> None:
        await self.evaluate("delete document.documentElement.dataset.loaded")
        await self.call("Page.reload")
        await self.wait("document.documentElement.dataset.loaded === 'true'")

    async def resize(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    async def theme(self, name: str) -> None:
        """What the system prefers: "light" or "dark"."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def evaluate(self, script: str) -> Any:
        """Value of an expression, awaited if it is a promise."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script[:200]}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    async def wait(self, condition: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            # A page that is being loaded anew has no context for a moment.
            try:
                value = await self.evaluate(f"Boolean({condition})")
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                value = False
            if value:
                return
            if time.monotonic() > deadline:
                body = await self.evaluate("document.body.innerText")
                raise TimeoutError(f"never true: {condition}\ncomplaints: {self.complaints}\npage:\n{body}")
            await asyncio.sleep(0.03)

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def count(self, selector: str) -> int:
        return int(await self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))

    async def hover(self, selector: str) -> tuple[float, float]:
        """Move the mouse over the first such element, and return where that is."""
        quoted = json.dumps(selector)
        await self.wait(f"document.querySelector({quoted})?.getClientRects().length")
        box = await self.evaluate(
            f"(() => {{ const e = document.querySelector({quoted}); e.scrollIntoView({{block: 'nearest'}});"
            " const b = e.getClientRects()[0]; return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        return box[0], box[1]

    async def click(self, selector: str) -> None:
        x, y = await self.hover(selector)
        where = {"x": x, "y": y, "button": "left", "clickCount": 1}
        await self.call("Input.dispatchMouseEvent", type="mousePressed", **where)
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", **where)

    async def type(self, selector: str, text: str) -> None:
        """Click a field, and put a text in place of what it holds."""
        await self.click(selector)
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: str = "", modifiers: int = 0) -> None:
        """A key; modifiers: 1 = Alt, 2 = Ctrl, 8 = Shift."""
        number, text = KEYS.get(key, (ord(key[0].upper()), key if not modifiers & 3 else ""))
        named = {"key": key, "code": code or key, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **named)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def choose_file(self, selector: str, path: Path) -> None:
        root = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])

    async def download_to(self, folder: Path) -> None:
        behavior = {"behavior": "allow", "browserContextId": self._context, "downloadPath": str(folder)}
        await self.call("Browser.setDownloadBehavior", **behavior)

    async def screenshot(self, path: Path) -> None:
        image = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(image["data"]))


@asynccontextmanager
async def new_page(chromium: Chromium) -> AsyncIterator[Page]:
    """A fresh tab in a context of its own."""
    async with aiohttp.ClientSession() as client, client.ws_connect(chromium.address, max_msg_size=0) as socket:
        page = Page(socket)
        await page.open()
        try:
            yield page
        finally:
            await page.close()
