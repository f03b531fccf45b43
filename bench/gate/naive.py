"""Naive limiters whose use of a quota the benchmark compares with that of the gate.

Both wait for their turn and know no lanes. `OwnBucket` lives in each process, so every process has the whole limit.
`FixedWindow` is shared and counts per minute, the unit of limits; when the minute turns, all waiters start at once.
"""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import count

from admission.wire import Wire
from schemas.admission import Ask, Grant, Penalty, Settlement
from schemas.job import Target

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """Permits per second; 0 is no limit."""

    requests: float
    tokens: float


def _granted(ask: Ask, number: int) -> Grant:
    return Grant(
        stamp=f"{number}",
        wait_ms=0,
        tokens=ask.tokens,
        cost_nano_usd=ask.cost_nano_usd,
        target=ask.target,
        epoch=ask.epoch,
    )


class _Deaf:
    """Ignores settlements and 429s."""

    async def settle(self, _: Settlement) -> bool:
        """Return nothing to the bucket."""
        return True

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Change nothing after a 429."""


class OwnBucket(_Deaf):
    """A token bucket of this process."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._levels = {"requests": rate.requests, "tokens": rate.tokens}
        self._at = time.monotonic()
        self._numbers = count(1)

    async def wait_for_grant(self, ask: Ask, _: float) -> Grant:
        """Take the permits, sleeping until they are available."""
        while (wait := self._wait(ask.tokens)) > 0:  # noqa: ASYNC110 - what it waits for is the time
            await asyncio.sleep(wait)
        self._levels["requests"] -= 1
        self._levels["tokens"] -= ask.tokens
        return _granted(ask, next(self._numbers))

    def _wait(self, tokens: int) -> float:
        now = time.monotonic()
        passed, self._at = now - self._at, now
        waits = [0.0]
        for name, rate, cost in (("requests", self._rate.requests, 1), ("tokens", self._rate.tokens, tokens)):
            self._levels[name] = min(rate, self._levels[name] + passed * rate)
            if rate and self._levels[name] < min(cost, rate):
                waits.append((min(cost, rate) - self._levels[name]) / rate)
        return max(waits)


@dataclass
class FixedWindow(_Deaf):
    """Counts by INCRBY on a key of the current minute; waiters beyond the limit wait for the next one."""

    wire: Wire
    rate: Rate
    name: str
    asks: int = 0
    _numbers: "count[int]" = field(default_factory=count)

    async def wait_for_grant(self, ask: Ask, _: float) -> Grant:
        """Count the job, or sleep until the window turns and try again."""
        while not await self._fits(ask.tokens):  # noqa: ASYNC110 - the same
            await asyncio.sleep(WINDOW_SECONDS - time.time() % WINDOW_SECONDS)
        return _granted(ask, next(self._numbers))

    async def _fits(self, tokens: int) -> bool:
        self.asks += 1
        key = f"{{bench}}:{self.name}:{int(time.time() / WINDOW_SECONDS)}"
        requests, spent = await asyncio.gather(
            self.wire.command("INCRBY", f"{key}:requests", 1), self.wire.command("INCRBY", f"{key}:tokens", tokens)
        )
        fits = all(
            count <= (per_second * WINDOW_SECONDS or count)
            for count, per_second in ((requests, self.rate.requests), (spent, self.rate.tokens))
        )
        if not fits:
            await self.wire.command("DECRBY", f"{key}:tokens", tokens)
        return bool(fits)
