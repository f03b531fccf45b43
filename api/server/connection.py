"""Adds time-outs and size bounds to uvicorn's protocol.

uvicorn bounds idle connections only. `Server.on_tick` costs less than timers.
"""

import asyncio
import socket
from typing import Any

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.server import refusals
from api.server.connections import Connections
from api.server.limits import (
    FREE_PIECES,
    LINGER_BYTES,
    LINGER_SECONDS,
    MAX_FRAMING_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED_REQUESTS,
    MIN_AVERAGE_PIECE_BYTES,
    UNSENT_BYTES,
    Progress,
)
from config.settings import Settings
from schemas.errors import PenstockError

log = structlog.get_logger()

NEVER = float("inf")


class _RefusedError(Exception):
    """Ends parsing at a passed bound."""

    def __init__(self, reason: PenstockError) -> None:
        self.reason = reason


class Connection(HttpToolsProtocol):
    """A client's connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._table = connections
        self._due_at = NEVER
        self._write_due_at = NEVER
        self._late: PenstockError = refusals.SLOW_HEAD
        self._body: Progress | None = None
        self._read_bytes = self._framed_bytes = self._body_bytes = self._pieces = 0
        self._lingering_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Register the connection, or refuse it beyond the cap."""
        super().connection_made(transport)
        if not self._table.add(self):
            transport.write(refusals.refusal(refusals.FULL))
            transport.close()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._due_at = self.loop.time() + self._settings.head_timeout_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self._table.remove(self)
        self._due_at = self._write_due_at = NEVER
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data and set the deadline for more."""
        if self._lingering_bytes is not None:
            self._throw_away(data)
            return
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._read_bytes = len(data)
        self._framed_bytes += self._read_bytes
        self._pieces += 1
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # no upgrade is supported, so it is answered as the plain request that it also is
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.reason if isinstance(cause, _RefusedError) else refusals.MALFORMED)
            return
        self._look_at_bounds()

    def on_message_begin(self) -> None:
        """Start counting the request's size. Raises within the parser."""
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            raise _RefusedError(refusals.PIPELINED)
        self._framed_bytes = min(self._read_bytes, MAX_FRAMING_BYTES)  # the rest of this read may be its body
        self._body_bytes = self._pieces = 0
        self._body = None
        self._due_at = NEVER
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header or trailer. Raises within the parser."""
        if len(self.headers) >= MAX_HEADERS:
            raise _RefusedError(refusals.LARGE_HEAD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request."""
        self._due_at = NEVER
        self._table.busy(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request; start the idle time-out if its response was sent."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self._due_at = self.loop.time() + self._settings.idle_timeout_seconds

    def on_body(self, body: bytes) -> None:
        """Receive a piece of the body. Raises within the parser."""
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > FREE_PIECES and self._body_bytes < self._pieces * MIN_AVERAGE_PIECE_BYTES:
            raise _RefusedError(refusals.TINY_PIECES)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if self._lingering_bytes is not None:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self.cycle.response_complete:
            self._due_at = NEVER  # uvicorn's own timer runs
            self._body = None
            self._table.silent(self)

    def pause_writing(self) -> None:
        """Stop writing to a slow client."""
        self._write_due_at = self.loop.time() + self._settings.write_timeout_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """Resume writing."""
        self._write_due_at = NEVER
        super().resume_writing()

    def expire(self, now: float) -> None:
        """Close where a time-out has passed."""
        if now >= self._write_due_at:
            log.info("connection_expired", reason="unread")
            self.abort()
        elif now >= self._due_at:
            self._expire_reading(now)
        elif self._write_due_at == NEVER and self.transport.is_closing():
            # the rest of the response is still being sent
            self._write_due_at = now + self._settings.write_timeout_seconds

    def abort(self) -> None:
        """Close at once and disconnect a waiting application."""
        self.transport.abort()

    def end(self) -> None:
        """Close after a response; an incomplete request first lets the client read it."""
        if not self.cycle.more_body or self._lingering_bytes is not None:
            self.transport.close()
            return
        self._lingering_bytes = 0
        self._due_at = self.loop.time() + LINGER_SECONDS
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _look_at_bounds(self) -> None:
        if self._framed_bytes > MAX_FRAMING_BYTES + 2 * self._body_bytes:
            self._refuse(refusals.LARGE_HEAD)
        elif self.cycle is None or self.cycle.response_complete:
            if self._pieces > FREE_PIECES:
                self._refuse(refusals.TINY_PIECES)
            elif self._due_at == NEVER:
                self._late = refusals.SLOW_HEAD
                self._due_at = self.loop.time() + self._settings.head_timeout_seconds
        elif self.cycle.more_body:
            self._await_body()
        else:
            self._due_at = NEVER

    def _await_body(self) -> None:
        now = self.loop.time()
        if self._body is None:
            self._body = self._progress(now)
            self.cycle.transport = _ResponseTransport(self)  # type: ignore[assignment]  # the three methods that it uses
        self._body.add(self._read_bytes, now)
        self._late = refusals.SLOW_BODY
        self._due_at = self._body.due_at

    def _progress(self, now: float) -> Progress:
        return Progress(
            began_at=now,
            last_at=now,
            seconds=self._settings.body_timeout_seconds,
            bytes_per_second=self._settings.min_body_bytes_per_second,
        )

    def _expire_reading(self, now: float) -> None:
        received_nothing = self._framed_bytes == 0
        if received_nothing or self._lingering_bytes is not None or self.transport.is_closing():
            self.abort()
        elif self._body is not None and self.flow.read_paused:  # the application reads slowly, not the client
            self._body = self._progress(now)
            self._due_at = self._body.due_at
        else:
            log.info("connection_expired", reason=self._late.code)
            self._refuse(self._late)

    def _refuse(self, reason: PenstockError) -> None:
        """Send an error if no response has begun, and close. Disconnects a waiting application."""
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if answering:
            cycle.disconnected = True
            cycle.message_event.set()
        if not (answering and cycle.response_started):
            self.transport.write(refusals.refusal(reason))
        self._due_at = self.loop.time() + LINGER_SECONDS
        self.transport.close()

    def _throw_away(self, data: bytes) -> None:
        self._lingering_bytes = (self._lingering_bytes or 0) + len(data)
        if self._lingering_bytes > LINGER_BYTES:
            self.abort()


class _ResponseTransport:
    """Transport of an early response: closes once the client could read it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.end()
