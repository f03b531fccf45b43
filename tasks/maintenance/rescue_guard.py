"""When the dead may be declared dead: not after a silence of the store, in which the living could not renew either.

A store that was paused, cut off or away comes back full of leases that ran out. The next heartbeat of each living
process renews its own, so the rescue waits that long, and only then takes what nobody has renewed. And it takes only
what had run out when the store answered: since then it may have stood still once more.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

Answer = TypeVar("Answer")

SILENCE_SECONDS = 2.0
"""Without an answer for so long, heartbeats may have failed too; rescue asks every second."""

RENEWAL_SECONDS = 6.0
"""By then every living process has had a heartbeat."""


class RescueGuard:
    """`ask` is a short question for the store's time, `rescue` the duty as of then; `clock` gives monotonic seconds."""

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
        """The same question, whose answers show as well that the store is not silent.

        So a process that does not lead keeps watch by asking whether it may, and need not wait when it does.
        """

        async def asked() -> Answer:
            asked_at = self._clock()
            answer = await ask()
            self._note(asked_at)
            return answer

        return asked

    async def rescue(self) -> int:
        """Rescue, unless the store was silent lately; returns how many jobs. Raises PostgresUnavailable."""
        asked_at = await self._ask()
        return await self._rescue(asked_at) if self._clock() >= self._not_before else 0

    def _note(self, asked_at: float) -> None:
        now = self._clock()
        heard_at = asked_at if self._answered_at is None else self._answered_at
        if now - heard_at > SILENCE_SECONDS:
            self._not_before = now + RENEWAL_SECONDS
        self._answered_at = now
