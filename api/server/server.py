"""Extends uvicorn's server with connection bounds."""

import asyncio
import functools
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from api.presence import cancel_all
from api.server.connection import Connection
from api.server.connections import Connections
from api.server.limits import possible_connections
from config.settings import Settings

BACKLOG = 2_048
"""Connections that may wait in the kernel: a burst of callers."""
ACCEPT_PAUSE_SECONDS = 0.5
"""Pause after a failed accept, for lack of descriptors or memory."""

log = structlog.get_logger()


class Server(uvicorn.Server):
    """A server that returns when stopped, so that its services are closed too."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._connections = Connections(possible_connections(settings))
        config = uvicorn.Config(
            app,
            host=settings.listen_host,
            port=settings.port,
            http=functools.partial(Connection, settings=settings, connections=self._connections),  # type: ignore[arg-type]  # makes one
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=settings.idle_timeout_seconds,  # type: ignore[arg-type]  # handed to call_later as it is
            timeout_graceful_shutdown=int(settings.drain_grace_seconds),
        )
        super().__init__(config)
        self._accepting: list[asyncio.Task[None]] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; a second SIGINT does not wait for requests."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and accept connections one by one, because asyncio's loop has no bound."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for listening in (sock for server in self.servers for sock in server.sockets):
            loop.remove_reader(listening.fileno())
            # with its protocol: asyncio sends small packets at once on TCP alone
            duplicate = socket.fromfd(listening.fileno(), listening.family, listening.type, listening.proto)
            duplicate.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(duplicate)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections and let requests finish."""
        await cancel_all(*self._accepting)
        await super().shutdown(sockets)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        make_protocol: Any = self.config.http_protocol_class  # a class to uvicorn, and here our partial
        protocol = functools.partial(
            make_protocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        with listening:
            while True:
                await self._connections.room()
                try:
                    accepted, _ = await loop.sock_accept(listening)
                    await loop.connect_accepted_socket(protocol, accepted)
                except OSError as error:
                    log.warning("accept_failed", reason=error.strerror)
                    await asyncio.sleep(ACCEPT_PAUSE_SECONDS)

    async def on_tick(self, counter: int) -> bool:
        """Close connections whose time-outs have passed, ten times a second."""
        self._connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)
