"""What every request goes through: its body is counted before anything reads it, and its answer is timed and logged."""

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bayestwin.serve.telling import Meters, log_request

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]


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
