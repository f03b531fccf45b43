"""Corrects the machine's clock by that of Postgres.

A wrong clock would park jobs for an hour, or expire them. Leases, wake-ups and deadlines are compared with the
database's clock, so processes must write times of the same clock.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

LARGEST_IGNORED = timedelta(seconds=0.5)
"""Largest difference that is ignored, because a slow answer may cause it."""


class StoreClock:
    """This machine's clock, corrected by the database time last read. `machine` is the clock that may be wrong."""

    def __init__(self, machine: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._machine = machine
        self._offset = timedelta(0)

    def now(self) -> datetime:
        """Return the corrected time of day, UTC."""
        return self._machine() + self._offset

    def heed(self, store_now: datetime) -> timedelta:
        """Adopt the store's time, just read; returns the correction, 0 for a difference that is ignored."""
        offset = store_now.astimezone(UTC) - self._machine()
        self._offset = offset if abs(offset) > LARGEST_IGNORED else timedelta(0)
        return self._offset
