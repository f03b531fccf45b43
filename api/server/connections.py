"""All connections of the process: counts them, closes those that are due, and makes room for new ones."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from api.server.limits import SPARE_CONNECTIONS

STRANGER_SECONDS = 0.5
"""How long a new connection may take to send its first request before it makes room for others: a client that opens
hundreds at once needs some time for each."""


class Closable(Protocol):
    """A connection as this table sees it."""

    def expire(self, now: float) -> None:
        """Close where a time-out has passed."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """Connections that are open. Those without a request under way are silent, and make room for new ones.

    Strangers, which had no request yet, go first, but for those that have only just come; then the longest silent of
    the others. `clock` gives seconds.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._open: dict[Closable, None] = {}
        self._strangers: dict[Closable, float] = {}
        self._silent: dict[Closable, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Closable) -> bool:
        """Count a new one, which is silent; closes a silent one beyond the cap. False where it has no place."""
        if len(self._open) >= self._most and (gone := self._first_to_go()):
            self.remove(gone)
            gone.abort()
        if len(self._open) >= self._most + SPARE_CONNECTIONS:
            return False
        self._open[connection] = None
        self._strangers[connection] = self._clock()
        return True

    async def room(self) -> None:
        """Wait until a new connection has a place: callers beyond it wait in the kernel's queue meanwhile."""
        while len(self._open) >= self._most and self._first_to_go() is None and not self._has_spare():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(STRANGER_SECONDS):
                    await self._changed.wait()

    def busy(self, connection: Closable) -> None:
        """It has a request under way."""
        self._forget_silence(connection)
        self._changed.set()

    def silent(self, connection: Closable) -> None:
        """Its request was answered."""
        if connection in self._open:
            self._silent[connection] = None
            self._changed.set()

    def remove(self, connection: Closable) -> None:
        """It is closed."""
        self._open.pop(connection, None)
        self._forget_silence(connection)
        self._changed.set()

    def sweep(self, now: float) -> None:
        """Close those whose time-outs have passed."""
        for connection in tuple(self._open):
            connection.expire(now)

    def _has_spare(self) -> bool:
        """Whether the places beyond the cap are free, and are not taken by those who have yet to say something."""
        return not self._strangers and len(self._open) < self._most + SPARE_CONNECTIONS

    def _first_to_go(self) -> Closable | None:
        for stranger, came_at in self._strangers.items():
            return stranger if self._clock() - came_at >= STRANGER_SECONDS else None  # the others came later
        return next(iter(self._silent), None)

    def _forget_silence(self, connection: Closable) -> None:
        self._strangers.pop(connection, None)
        self._silent.pop(connection, None)
