"""All connections of the process: counts them, closes those that are due, and makes room for new ones."""

from typing import Protocol

from api.server.limits import SPARE_CONNECTIONS


class Closable(Protocol):
    """A connection as this table sees it."""

    def expire(self, now: float) -> None:
        """Close where a time-out has passed."""

    def abort(self) -> None:
        """Close at once."""


class Connections:
    """Connections that are open. `silent` are those without a request under way, the longest silent first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Closable, None] = {}
        self._silent: dict[Closable, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def crowded(self) -> bool:
        """Whether more are open than may be, so that only probes are answered."""
        return len(self._open) > self._most

    def add(self, connection: Closable) -> bool:
        """Count a new one, which is silent; closes the longest silent one beyond the cap. False where it has no place.

        A silent connection has no request, and almost always no key: it goes before anything that somebody waits for.
        """
        if len(self._open) >= self._most and self._silent:
            self._evict(next(iter(self._silent)))
        if len(self._open) >= self._most + SPARE_CONNECTIONS:
            return False
        self._open[connection] = self._silent[connection] = None
        return True

    def busy(self, connection: Closable) -> None:
        """It has a request under way."""
        self._silent.pop(connection, None)

    def silent(self, connection: Closable) -> None:
        """Its request was answered."""
        if connection in self._open:
            self._silent[connection] = None

    def remove(self, connection: Closable) -> None:
        """It is closed."""
        self._open.pop(connection, None)
        self._silent.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Close those whose time-outs have passed."""
        for connection in tuple(self._open):
            connection.expire(now)

    def _evict(self, connection: Closable) -> None:
        self.remove(connection)
        connection.abort()
