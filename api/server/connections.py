"""All connections of the process: counts them, closes those that are due, and makes room for new ones."""

import asyncio
from typing import Protocol

from api.server.limits import SPARE_CONNECTIONS


class Closable(Protocol):
    """A connection as this table sees it."""

    def expire(self, now: float) -> None:
        """Close where a time-out has passed."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """Connections that are open. Those without a request under way are silent, and make room for new ones.

    Strangers, which had no request answered yet, go first, then the longest silent of the others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Closable, None] = {}
        self._strangers: dict[Closable, None] = {}
        self._silent: dict[Closable, None] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def crowded(self) -> bool:
        """Whether more are open than may be, so that only probes are answered."""
        return len(self._open) > self._most

    def add(self, connection: Closable) -> bool:
        """Count a new one, which is silent; closes a silent one beyond the cap. False where it has no place."""
        if len(self._open) >= self._most:
            self._make_room()
        if len(self._open) >= self._most + SPARE_CONNECTIONS:
            return False
        self._open[connection] = self._strangers[connection] = None
        return True

    async def room(self) -> None:
        """Wait until a new connection would have a place: callers beyond it wait in the kernel's queue meanwhile."""
        while len(self._open) >= self._most + SPARE_CONNECTIONS and not (self._strangers or self._silent):
            self._changed.clear()
            await self._changed.wait()

    def busy(self, connection: Closable) -> None:
        """It has a request under way."""
        self._forget_silence(connection)

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

    def _make_room(self) -> None:
        for connection in (*self._strangers, *self._silent):
            self.remove(connection)
            connection.abort()
            return

    def _forget_silence(self, connection: Closable) -> None:
        self._strangers.pop(connection, None)
        self._silent.pop(connection, None)
