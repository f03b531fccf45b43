"""Delays rescue after Postgres was unreachable, because live workers could not renew their leases either.

After the next heartbeats, rescue takes leases that had run out when Postgres answered.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

Answer = TypeVar("Answer")

SILENCE_SECONDS = 2.0
"""Silence that counts as an outage. Rescue asks every second."""

RENEWAL_SECONDS = 6.0
"""Wait after an outage; every live process has had a heartbeat by then."""


class RescueGuard:
    """Runs `rescue` as of Postgres's time from `ask`. `clock` is monotonic."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[datetime]],
        rescue: Callable[[datetime], Awaitable[int]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._ask, self._rescue, self._clock = self.observing(ask), rescue, clock
        self._answered_at: float | None = None
        self._not_before = float("-inf")

    def observing(self, ask: Callable[[], Awaitable[Answer]]) -> Callable[[], Awaitable[Answer]]:
        """Wrap a query, so that its answers also show that Postgres is reachable.

        A process that asks for the lead need not wait later.
        """

        async def observed() -> Answer:
            asked_at = self._clock()
            answer = await ask()
            self._note(asked_at)
            return answer

        return observed

    async def rescue(self) -> int:
        """Rescue jobs, unless Postgres was unreachable; returns how many. Raises PostgresUnavailable."""
        asked_at = await self._ask()
        return await self._rescue(asked_at) if self._clock() >= self._not_before else 0

    def _note(self, asked_at: float) -> None:
        now = self._clock()
        last_answer_at = asked_at if self._answered_at is None else self._answered_at
        if now - last_answer_at > SILENCE_SECONDS:
            self._not_before = now + RENEWAL_SECONDS
        self._answered_at = now
