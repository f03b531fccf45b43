"""Adds an id to every request, bounds its body and memory, measures it.

Pure ASGI, so that streams pass. Callers cannot choose the id, because support searches the logs by it.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import CLIENT_GONE, BodyTooLarge, answer
from api.memory import BODY_WEIGHT, UPLOAD_BYTES, MemoryBudget, MemoryShare
from api.metrics import Metrics
from schemas.errors import PenstockError

log = structlog.get_logger()

FORM_OVERHEAD_BYTES = 1_000_000
"""Bytes of a form besides its file."""
FILE_PATHS = frozenset({"/v1/files", "/dead-letters/import"})
"""Paths whose bodies are streamed."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Polled every few seconds, so logged at debug level only."""
SMALL_BODY_BYTES, READ_ON_SECONDS = 64_000, 1.0
"""A small body is read this long at most before an early response."""
SHARE = "memory"
"""Key of the memory share in the request's state."""
METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})


class Frame:
    """The outermost middleware.

    `cap_bytes` returns the largest body of a path; `closed` receives the scope of finished requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        cap_bytes: Callable[[str], int],
        memory: MemoryBudget,
        closed: Callable[[Scope], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._cap_bytes = cap_bytes
        self._memory = memory
        self._closed = closed
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request; pass other scopes on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id), self._metrics.in_flight.track_inprogress():
            await self._measured(scope, receive, send, request_id)

    async def _measured(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began, status = self._clock(), 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._capped(scope, receive, send_named)
        finally:
            if status == CLIENT_GONE:
                self._metrics.abandoned.inc()
            self._closed(scope)
            self._note(scope, status, self._clock() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.seconds.labels(method=method, route=route, status=str(status)).observe(seconds)
        note = log.debug if route in PROBES else log.info
        note("answered", method=method, route=route, status=status, ms=round(seconds * 1000))

    async def _capped(self, scope: Scope, receive: Receive, send: Send) -> None:
        share = MemoryShare(self._memory)
        scope["state"][SHARE] = share
        body = _Body(scope, receive, send, share, most_bytes=self._cap_bytes(scope["path"]))
        try:
            body.check()
        except PenstockError as error:
            await answer(error)(scope, receive, body.send)
            return
        try:
            await self._app(scope, body.receive, body.send)
        finally:
            share.release()


class _Body:
    """Reads the body of a request, with bounds on size and memory. An early response closes the connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, share: MemoryShare, *, most_bytes: int) -> None:
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        self._announced_bytes = int(announced) if announced.isdigit() else 0
        self._unread = self._announced_bytes > 0 or "transfer-encoding" in headers
        self._closes = False
        self._streams = scope["path"].rstrip("/") in FILE_PATHS
        self._buffered = False
        self._receive = receive
        self._send = send
        self._share = share
        self._most_bytes = most_bytes
        self._seen_bytes = 0

    def check(self) -> None:
        """Refuse a body before reading it. Raises BodyTooLarge and Busy."""
        if self._announced_bytes > self._most_bytes:
            raise _too_large(self._most_bytes)
        if self._announced_bytes and not self._streams:
            self._share.check(self._announced_bytes * BODY_WEIGHT)

    async def receive(self) -> Message:
        """Read the next part. Raises BodyTooLarge and Busy."""
        message = await self._receive()
        size = len(message.get("body", b""))
        self._unread = self._unread and message.get("more_body", False)
        self._seen_bytes += size
        if self._seen_bytes > self._most_bytes:
            self._closes = True
            raise _too_large(self._most_bytes)
        if size:
            self._count(size)
        return message

    def _count(self, size: int) -> None:
        if not self._streams:
            self._share.take(size * BODY_WEIGHT)
        elif not self._buffered:
            self._share.take_buffers(UPLOAD_BYTES)
            self._buffered = True

    async def send(self, message: Message) -> None:
        """Send the response; an early one first reads a small body's rest."""
        if message["type"] == "http.response.start":
            if self._unread and 0 < self._announced_bytes <= SMALL_BODY_BYTES:
                await self._read_on()
            if self._unread or self._closes:
                MutableHeaders(scope=message)["connection"] = "close"
        await self._send(message)

    async def _read_on(self) -> None:
        """Read the rest: a client that still sends would take the closed connection for a failure."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_ON_SECONDS):
                while self._unread:
                    message = await self._receive()
                    self._unread = bool(message.get("more_body", False))


def body_caps(*, max_body_bytes: int, max_file_bytes: int) -> Callable[[str], int]:
    """Return the function from path to largest body in bytes."""
    return lambda path: max_file_bytes + FORM_OVERHEAD_BYTES if path.rstrip("/") in FILE_PATHS else max_body_bytes


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {most} bytes.")
