"""What a server tells of itself, request by request: figures for Prometheus, and a log in which no token stands."""

import json
import logging
import pathlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bayestwin.serve.production import InService
from bayestwin.serve.tokens import without_tokens

LOG = logging.getLogger("bayestwin.serve")

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of latencies."""

DRIFT = {"ok": 0, "watch": 1, "act": 2}
"""By the verdict of the newest monitoring of what is served; −1 is anything else, or none."""

LARGEST_MONITOR = 16 << 20
"""Bytes that `monitor.json` may have."""


class Meters:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        """All are zero."""
        self.registry = CollectorRegistry()
        own = {"registry": self.registry, "namespace": "bayestwin"}
        self.seconds = Histogram("request_seconds", "Seconds to an answer", ["route", "model"], buckets=SECONDS, **own)
        self.requests = Counter("requests", "Requests by what became of them", ["route", "code"], **own)
        self.draws = Counter("draws", "Draws that were forecast", ["model"], **own)
        self.pit = Histogram(
            "pit",
            "Share of the forecast's draws below readings: even where forecasts are calibrated",
            ["model", "observation"],
            buckets=[place / 10 for place in range(1, 11)],
            **own,
        )
        self.drift = Gauge("drift", "Monitoring says ok 0, watch 1, act 2; -1 is not known", ["model"], **own)
        self.ready = Gauge("ready", "Whether production can answer", ["model"], **own)
        self.version = Gauge("version", "What is served", ["model", "run", "posterior_sha256"], **own)
        self._served: dict[str, tuple[str, str]] = {}

    def tell(self, model: str, serving: InService | None, drift: str | None) -> None:
        """What is served of a model, and what monitoring says of it."""
        self.ready.labels(model).set(0 if serving is None else 1)
        self.drift.labels(model).set(DRIFT.get(drift or "", -1))
        now = None if serving is None else (serving.held.run, serving.held.posterior_sha256)
        before = self._served.pop(model, None)
        if before is not None and before != now:
            self.version.remove(model, *before)
        if now is not None:
            self.version.labels(model, *now).set(1)
            self._served[model] = now

    def text(self) -> bytes:
        """All figures as Prometheus reads them."""
        return generate_latest(self.registry)


def monitored(run: pathlib.Path, posterior_sha256: str) -> dict[str, Any] | None:
    """What monitoring said last of a posterior; None where that is not known."""
    path = run / "monitor.json"
    try:
        if path.stat().st_size > LARGEST_MONITOR:
            return None
        found = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("posterior_sha256") not in (None, posterior_sha256):
        return None
    return found


def log_request(method: str, path: str, code: int, seconds: float, who: str) -> None:
    """A line of the log; what could be a token is taken out, and what follows a `?` is left out."""
    line = f"{method} {path} {code} {1e3 * seconds:.1f} ms {who or '-'}"
    LOG.info("%s", without_tokens("".join(sign if sign.isprintable() else "?" for sign in line)))


# What every request goes through: its body is counted before anything reads it, its answer is timed and logged.


class BodyLimit:
    """Middleware of ASGI."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], *, most: int, meters: Meters) -> None:
        """Around an application.

        Args:
            app: What answers.
            most: Bytes that a body may have.
            meters: Told of each request.
        """
        self.app, self.most, self.meters = app, most, meters

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            body = await self._read(scope, receive)
            if body is None:
                await self._refuse(told)
            else:
                await self.app(scope, _replayed(body, receive), told)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            model = scope.get("path_params", {}).get("name", "") if status < 400 else ""
            self.meters.seconds.labels(route, model).observe(seconds)
            self.meters.requests.labels(route, str(status)).inc()
            log_request(scope["method"], scope["path"], status, seconds, scope.get("who", ""))

    async def _read(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body; None where it is too large, which is known early where its length is told."""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self.most:
                return None
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(parts)
            part = message.get("body", b"")
            size += len(part)
            if size > self.most:
                return None
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _refuse(self, send: Send) -> None:
        error = {
            "problem": "The body is too large.",
            "expected": f"at most {self.most:,} bytes",
            "received": "more than that",
            "advice": "Ask for fewer times at once.",
        }
        text = json.dumps({"error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": text})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be received once; what comes after it is what comes."""
    left = [body]

    async def again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again
