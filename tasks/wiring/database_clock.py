"""Corrects the machine's clock by that of Postgres.

Leases, wake-ups and deadlines are compared with the database's clock, so a wrong clock would park or expire jobs.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

LARGEST_IGNORED = timedelta(seconds=0.5)
"""A slow answer may cause smaller differences."""


class StoreClock:
    """Corrects `machine` by the database time last read."""

    def __init__(self, machine: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._machine = machine
        self._offset = timedelta(0)

    def now(self) -> datetime:
        """Return the corrected time, UTC."""
        return self._machine() + self._offset

    def sync(self, store_now: datetime) -> timedelta:
        """Adopt the store's time; returns the correction, 0 if ignored."""
        offset = store_now.astimezone(UTC) - self._machine()
        self._offset = offset if abs(offset) > LARGEST_IGNORED else timedelta(0)
        return self._offset
