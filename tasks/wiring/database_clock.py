"""The time of day as Postgres has it, so that a machine whose clock is wrong parks no job for an hour and expires none.

Leases, wake-ups and deadlines are compared on the database's clock; what a process writes must be meant on the same.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

LARGEST_IGNORED = timedelta(seconds=0.5)
"""A difference that a slow answer may have made is no error of the clock."""


class StoreClock:
    """This machine's clock, corrected by what the store said last. `machine` is the clock that may be wrong."""

    def __init__(self, machine: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._machine = machine
        self._offset = timedelta(0)

    def now(self) -> datetime:
        """The time of day, UTC."""
        return self._machine() + self._offset

    def heed(self, store_now: datetime) -> timedelta:
        """Take over the store's time, just read; returns by how much this machine's clock differs from it."""
        offset = store_now.astimezone(UTC) - self._machine()
        self._offset = offset if abs(offset) > LARGEST_IGNORED else timedelta(0)
        return self._offset
