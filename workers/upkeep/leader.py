"""Tells a process whether it leads a group of duties, by a lease in Postgres that it renews.

Between renewals the process trusts its monotonic clock for less than the lease lasts, so a process that was paused asks
again before it acts.
"""

from collections.abc import Awaitable, Callable

RENEW_SECONDS = 1.0
"""A fifth of the lease: it costs a busy loop one statement a second, and four renewals may fail."""


class Leader:
    """A process's leadership. `lead` takes or renews the lease; `clock` gives monotonic seconds."""

    def __init__(self, lead: Callable[[], Awaitable[bool]], *, clock: Callable[[], float]) -> None:
        self._lead = lead
        self._clock = clock
        self._led_at = float("-inf")

    async def leads(self) -> bool:
        """Whether this process leads now. Raises PostgresUnavailable."""
        asked_at = self._clock()
        if asked_at - self._led_at < RENEW_SECONDS:
            return True
        self._led_at = asked_at if await self._lead() else float("-inf")
        return self._led_at == asked_at
