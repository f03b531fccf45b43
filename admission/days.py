"""Computes when a provider's day ends, across clock changes. Pure.

The Lua scripts have no calendar, so they receive the ends of this day and the next.
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class DayResets:
    """A daily reset at `at` in `zone`, 23, 24 or 25 hours apart."""

    at: time
    zone: ZoneInfo

    def ends_after(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the first two resets after `now`; a skipped hour does not move its reset."""
        today = now.astimezone(self.zone).date()
        ends = [datetime.combine(today + timedelta(days=n), self.at, self.zone) for n in range(-1, 4)]
        coming = sorted(end for end in ends if end.timestamp() > now.timestamp())
        return coming[0], coming[1]
