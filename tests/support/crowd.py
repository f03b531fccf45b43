"""Many waiters at one gate, in virtual time: each sleeps to its ticket and asks again, as workers do.

The scripts run on the real server; only its clock is ours. Minutes of contention pass in seconds, the same each time.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from admission.gate import Gate
from schemas.admission import Ask, Grant, Wait
from schemas.lanes import Lane
from tests.support.admission_fixture import SECOND_US, Clock


@dataclass(frozen=True, kw_only=True)
class Started:
    """A job that was let in: when it first asked, when it may start, and how often it asked."""

    ask: Ask
    asked_at_us: int
    starts_at_us: int
    asks: int

    @property
    def waited_ms(self) -> float:
        return (self.starts_at_us - self.asked_at_us) / 1_000


@dataclass
class Crowd:
    """Whoever is let in leaves; `starts` tells who came in, in the order of their grants."""

    gate: Gate
    clock: Clock
    starts: list[Started] = field(default_factory=list)
    _heap: list[tuple[int, int, Ask, int, int]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)

    def join(self, asks: Iterable[Ask], *, at_us: int, apart_us: int = 0) -> None:
        for number, ask in enumerate(asks):
            moment = at_us + number * apart_us
            heapq.heappush(self._heap, (moment, next(self._order), ask, moment, 0))

    async def until(self, end_us: int) -> None:
        """Let everybody ask whose moment comes before the end."""
        while self._heap and self._heap[0][0] < end_us:
            moment, _, ask, since, asks = heapq.heappop(self._heap)
            self.clock.now_us = max(self.clock.now_us, moment)
            waited = replace(ask, waited_ms=(self.clock.now_us - since) // 1_000)
            answer = await self.gate.admit(waited)
            if isinstance(answer, Grant):
                starts_at = self.clock.now_us + answer.wait_ms * 1_000
                self.starts.append(Started(ask=ask, asked_at_us=since, starts_at_us=starts_at, asks=asks + 1))
                continue
            assert isinstance(answer, Wait), answer
            again = (self.clock.now_us + answer.retry_after_ms * 1_000, next(self._order))
            heapq.heappush(self._heap, (*again, replace(ask, has_ticket=True), since, asks + 1))
        self.clock.now_us = max(self.clock.now_us, end_us)

    def of(self, lane: Lane) -> list[Started]:
        return [start for start in self.starts if start.ask.lane is lane]

    def tokens(self, lane: Lane | None = None) -> int:
        return sum(start.ask.tokens for start in self.starts if lane is None or start.ask.lane is lane)


def seconds(number: float) -> int:
    return round(number * SECOND_US)
