"""Around every request: an id, a cap on the body, a measurement. Pure ASGI, so that streams pass through untouched.

The id is ours, never the caller's: it is what support will look for in the logs, so nobody else may choose it.
"""

import time
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import CLIENT_GONE, BodyTooLarge, answer
from api.metrics import Metrics

log = structlog.get_logger()

FORM_OVERHEAD_BYTES = 1_000_000
"""What a form may weigh besides its file."""
FILE_PATHS = frozenset({"/v1/files", "/dead-letters/import"})
"""Where what is sent is a stream of lines, and never held whole."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines; a line each would bury the others."""
METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})


class Frame:
    """The outermost middleware. `cap_bytes` says how large the body of a path may be.

    `closed` is called with each request whose answer has ended.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        cap_bytes: Callable[[str], int],
        closed: Callable[[Scope], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._cap_bytes = cap_bytes
        self._closed = closed
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
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
                self._metrics.abandoned()
            self._closed(scope)
            self._note(scope, status, self._clock() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.answered(method=method, route=route, status=status, seconds=seconds)
        note = log.debug if route in PROBES else log.info
        note("answered", method=method, route=route, status=status, ms=round(seconds * 1000))

    async def _capped(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._cap_bytes(scope["path"])
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > most:
            await answer(_too_large(most))(scope, receive, send)
            return
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large(most)
            return message

        await self._app(scope, receive_counted, send)


def body_caps(*, max_body_bytes: int, max_file_bytes: int) -> Callable[[str], int]:
    """The cap of each path: files may be large, everything else is a single request."""
    return lambda path: max_file_bytes + FORM_OVERHEAD_BYTES if path.rstrip("/") in FILE_PATHS else max_body_bytes


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {most} bytes.")
