"""Headless Chromium with one page, controlled by the DevTools protocol through a pipe."""

import asyncio
import base64
import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Browser", "browser", "chromium", "serious_findings"]

AXE = Path(__file__).with_name("axe.min.js")
"""axe-core 4.14.1 as npm has it (MPL 2.0, axe.LICENSE.txt); tests alone use it."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LONGEST_WAIT = 30
"""Seconds that a reply may take on a busy machine."""

SWITCHES = re.findall(
    r"\S+",
    """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync --disable-extensions
    --hide-scrollbars --force-device-scale-factor=1 --disable-dev-shm-usage
    --remote-debugging-pipe""",
)


def chromium() -> str | None:
    """Return the program to run: CHEM_TEST_BROWSER if set (`none` is None), else one installed."""
    chosen = os.environ.get("CHEM_TEST_BROWSER")
    if chosen == "none":
        return None
    if chosen:
        return chosen
    return next((found for name in NAMES if (found := shutil.which(name))), None)


ON_3_AND_4 = """
import fcntl, os, sys
to, back = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(to, 3)
os.dup2(back, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands on descriptor 3 and writes on 4."""


class Browser:
    """One page.

    `requests` are the URLs that it requested, `complaints` the warnings and errors of its console.
    """

    def __init__(self, to: asyncio.StreamWriter, back: asyncio.StreamReader) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._to = to
        self._back = back
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._target: str | None = None
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def listen(self) -> None:
        """Read what Chromium sends, until it ends."""
        while data := await self._next():
            message = msgspec.json.decode(data)
            if "id" in message:
                self._replies.pop(message["id"]).set_result(message)
            elif message.get("sessionId") == self._session:
                self._note(message["method"], message.get("params", {}))

        for reply in self._replies.values():
            reply.set_exception(EOFError("Chromium ended"))

    async def _next(self) -> bytes:
        try:
            return (await self._back.readuntil(b"\0"))[:-1]
        except asyncio.IncompleteReadError:
            return b""

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in {"warning", "error"}:
                self.complaints.append(params["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded.set()
            case _:
                pass

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        self._to.write(msgspec.json.encode(message) + b"\0")
        async with asyncio.timeout(LONGEST_WAIT):
            done = await reply
        assert "error" not in done, done
        result: dict[str, Any] = done["result"]
        return result

    async def attach(self) -> None:
        """Close the page, and open an empty one, to which all later commands apply."""
        self.requests, self.complaints, self._session = [], [], None
        if self._target is not None:
            await self.send("Target.closeTarget", targetId=self._target)
        self._target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.send("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility", "DOM"):
            await self.send(f"{domain}.enable")

    async def open(
        self,
        page: Path | str,
        *,
        width: int = 1200,
        scheme: str = "light",
        motion: str = "no-preference",
    ) -> None:
        """Load a file or a URL in a window of this width, in a `light` or `dark` scheme."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        await self.send("Emulation.setEmulatedMedia", features=features)
        self._loaded.clear()
        url = page.as_uri() if isinstance(page, Path) else page
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(LONGEST_WAIT):
            await self._loaded.wait()

    async def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page and return its JSON value."""
        done = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **pressed)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def picture(self, *, top: float = 0, height: float | None = None) -> bytes:
        """Return a PNG of the page from `top` on, `height` pixels high or down to the end."""
        size = (await self.send("Page.getLayoutMetrics"))["cssContentSize"]
        height = size["height"] - top if height is None else height
        clip = {"x": 0, "y": top, "width": size["width"], "height": height, "scale": 1}
        shot = await self.send(
            "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
        )
        return base64.b64decode(shot["data"])


async def serious_findings(page: Browser) -> list[tuple[str, str]]:
    """Return what axe-core finds serious or critical in a page: the rule, and an element."""
    await page.run(AXE.read_text(encoding="utf-8") + "; true")
    found = await page.run("axe.run().then((all) => all.violations)")
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    return [(each["id"], each["nodes"][0]["html"]) for each in serious]


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium with a new profile, and end it; `attach` opens a page in it.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    program = chromium()
    if program is None:
        raise FileNotFoundError("no Chromium: install one, or name it in CHEM_TEST_BROWSER")
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", ON_3_AND_4, str(in_read), str(out_write), program]
        process = await asyncio.create_subprocess_exec(
            *command,
            *SWITCHES,
            f"--user-data-dir={profile}",
            pass_fds=(in_read, out_write),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"TMPDIR": profile},
        )
        os.close(in_read)
        os.close(out_write)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**28)
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out_read, "rb")
        )
        writing, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(in_write, "wb")
        )
        page = Browser(asyncio.StreamWriter(writing, protocol, None, loop), reader)
        listening = asyncio.create_task(page.listen())
        try:
            yield page
        finally:
            listening.cancel()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            reading.close()
            writing.close()
