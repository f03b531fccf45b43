"""Counts the process's connections, closes overdue ones, and admits new ones."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from api.server.limits import SPARE_CONNECTIONS

STRANGER_SECONDS = 0.5
"""A client that opens hundreds of connections needs some time for each."""


class Closable(Protocol):
    """A connection that can be closed."""

    def expire(self, now: float) -> None:
        """Close where a time-out has passed."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """All open connections. Idle ones may be closed to admit new ones.

    Those that never sent a request close first, once `STRANGER_SECONDS` old; then those idle longest. `clock` returns
    seconds.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._open: dict[Closable, None] = {}
        self._new: dict[Closable, float] = {}
        self._silent: dict[Closable, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Closable) -> bool:
        """Register a connection, possibly in place of an idle one. Returns False if there is no place."""
        if len(self._open) >= self._most and (evicted := self._next_to_evict()):
            self.remove(evicted)
            evicted.abort()
        if len(self._open) >= self._most + SPARE_CONNECTIONS:
            return False
        self._open[connection] = None
        self._new[connection] = self._clock()
        return True

    async def room(self) -> None:
        """Wait for a place; further clients wait in the kernel's queue."""
        while len(self._open) >= self._most and self._next_to_evict() is None and not self._has_spare():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(STRANGER_SECONDS):
                    await self._changed.wait()

    def busy(self, connection: Closable) -> None:
        """Mark the connection as having a request."""
        self._forget_silence(connection)
        self._changed.set()

    def silent(self, connection: Closable) -> None:
        """Mark the connection as idle."""
        if connection in self._open:
            self._silent[connection] = None
            self._changed.set()

    def remove(self, connection: Closable) -> None:
        """Unregister a closed connection."""
        self._open.pop(connection, None)
        self._forget_silence(connection)
        self._changed.set()

    def sweep(self, now: float) -> None:
        """Close connections whose time-outs have passed."""
        for connection in tuple(self._open):
            connection.expire(now)

    def _has_spare(self) -> bool:
        """Whether a spare place is free, and no connection still owes its first request."""
        return not self._new and len(self._open) < self._most + SPARE_CONNECTIONS

    def _next_to_evict(self) -> Closable | None:
        for connection, opened_at in self._new.items():
            return connection if self._clock() - opened_at >= STRANGER_SECONDS else None  # the others are younger
        return next(iter(self._silent), None)

    def _forget_silence(self, connection: Closable) -> None:
        self._new.pop(connection, None)
        self._silent.pop(connection, None)
