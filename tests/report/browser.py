"""A headless Chromium that is told what to do over two pipes, by the DevTools protocol: no package, no port."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0
"""Seconds that one answer may take: the first start on a busy machine is slow."""

LAUNCH = """
import os, sys
read, write = int(sys.argv[1]), int(sys.argv[2])
read, write = os.dup(read), os.dup(write)  # away from 3 and 4, which are to be overwritten
read, write = (os.dup(n) if n < 5 else n for n in (read, write))
read, write = (os.dup(n) if n < 5 else n for n in (read, write))
os.dup2(read, 3); os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str | None:
    """Path of a browser; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser; `troubles` are errors of scripts, of loading and of the policy, in words."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._rest, self._sent = b"", 0
        self._session: str | None = None
        self._loaded = False
        self.troubles: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give an order, and wait for what it returns."""
        self._sent += 1
        order = {"id": self._sent, "method": method, "params": params}
        order |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(order).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._sent:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]

    def open(self, path: pathlib.Path) -> list[str]:
        """Show a file, from the beginning; returns what went wrong."""
        self.troubles, self._loaded = [], False
        self.send("Page.navigate", url=path.absolute().as_uri())
        while not self._loaded:
            self._next()
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.troubles

    def run(self, expression: str) -> Any:
        """The value of JavaScript on the page, as if the user had asked for it."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def key(self, name: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def like(self, *, scheme: str = "light", media: str = "screen") -> None:
        """Prefer light or dark, on a screen or in print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            self._rest += os.read(self._read, 1 << 20)
        one, self._rest = self._rest.split(b"\0", 1)
        told = json.loads(one)
        self._note(told.get("method", ""), told.get("params", {}))
        return told

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.troubles.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.troubles.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.troubles.append(str(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.troubles.append(f"a dialog: {params['message']}")
            self._sent += 1
            order = {"id": self._sent, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._write, json.dumps(order | {"sessionId": self._session}).encode() + b"\0")


@contextlib.contextmanager
def started(program: str, profile: pathlib.Path) -> Iterator[Browser]:
    """A browser with an empty profile, which is ended with the block."""
    theirs, ours = os.pipe(), os.pipe()  # (what it reads, what we write), (what we read, what it writes)
    flags = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu", "--no-first-run"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(theirs[0]), str(ours[1]), program, *flags, "about:blank"],
        pass_fds=(theirs[0], ours[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs[0])
    os.close(ours[1])
    try:
        yield Browser(ours[0], theirs[1])
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
        os.close(ours[0])
        os.close(theirs[1])
