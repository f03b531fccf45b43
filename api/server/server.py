"""uvicorn's server with our connections: looks at their time-outs, and accepts no faster than it counts them."""

import asyncio
import functools
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from api.server.connection import Connection
from api.server.connections import Connections
from api.server.limits import connection_limits
from config.settings import Settings

ACCEPTED_AT_ONCE = 16
"""Connections taken in one turn of the loop, before they are counted; asyncio takes as many as its backlog, and beyond
the descriptors it logs each of them."""
BACKLOG = 2_048
"""Connections that wait in the kernel until they are taken: a burst of callers."""


class Server(uvicorn.Server):
    """A server that returns when it is told to stop, so that the house behind it is closed as well."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        limits = connection_limits(settings, soft_descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._connections = Connections(limits.most)
        config = uvicorn.Config(
            app,
            host=settings.listen_host,
            port=settings.port,
            http=functools.partial(Connection, limits=limits, connections=self._connections),  # type: ignore[arg-type]  # makes one
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=ACCEPTED_AT_ONCE,
            timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]  # handed to call_later as it is
            timeout_graceful_shutdown=int(settings.drain_grace_seconds),
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; a second SIGINT does not wait for requests under way."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with a longer queue in the kernel than connections are taken at once."""
        await super().startup(sockets)
        for listening in (own for server in self.servers for own in server.sockets):
            with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                same.listen(BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Close connections whose time-outs have passed, ten times a second."""
        self._connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)
