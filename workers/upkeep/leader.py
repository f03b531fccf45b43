"""Decides whether a process leads a group of duties, by a lease in Postgres.

It trusts its clock for less than the lease lasts, so a paused process asks again.
"""

from collections.abc import Awaitable, Callable

RENEW_SECONDS = 1.0
"""A fifth of the lease, so four renewals may fail."""


class Leader:
    """A process's leadership. `lead` takes or renews the lease; `clock` is monotonic."""

    def __init__(self, lead: Callable[[], Awaitable[bool]], *, clock: Callable[[], float]) -> None:
        self._lead = lead
        self._clock = clock
        self._led_at = float("-inf")

    async def leads(self) -> bool:
        """Whether this process leads now. Raises PostgresUnavailable."""
        now = self._clock()
        if now - self._led_at < RENEW_SECONDS:
            return True
        self._led_at = now if await self._lead() else float("-inf")
        return self._led_at == now
