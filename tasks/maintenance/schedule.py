"""Schedules the periodic duties of an elected leader.

Every duty is idempotent or fenced, so a stale leader is harmless. A failing duty is logged once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from schemas.errors import Unavailable

log = structlog.get_logger()

SWEEP_SECONDS = 0.25
"""Longest pause between two rounds without a wake-up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """Holds a periodic action; `run` returns how many items it moved.

    With `goes_on` it runs again in the next round after it moved something.
    """

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[int]]
    goes_on: bool = False


@dataclass(kw_only=True)
class Rounds:
    """Runs due duties in order. `now_seconds` is monotonic."""

    duties: Sequence[Duty]
    _last_run: dict[str, float] = field(default_factory=dict)
    _failing: dict[str, str] = field(default_factory=dict)

    async def run_due(self, now_seconds: float) -> int:
        """Run every due duty; returns how many items moved."""
        moved = 0
        for duty in self.duties:
            if now_seconds - self._last_run.get(duty.name, -duty.every_seconds) >= duty.every_seconds:
                self._last_run[duty.name] = now_seconds
                of_duty = await self._run(duty)
                if of_duty and duty.goes_on:
                    del self._last_run[duty.name]
                moved += of_duty
        return moved

    async def _run(self, duty: Duty) -> int:
        try:
            moved = await duty.run()
        except Unavailable as error:
            if self._fails_anew(duty, error):
                log.warning("duty_waits", duty=duty.name, reason=error.message)
            return 0
        except Exception as error:  # a process loop: a bug in one duty must not stop the others
            if self._fails_anew(duty, error):
                log.exception("duty_failed", duty=duty.name)
            return 0
        if self._failing.pop(duty.name, None):
            log.info("duty_resumed", duty=duty.name)
        if moved:
            log.debug("duty_done", duty=duty.name, moved=moved)
        return moved

    def _fails_anew(self, duty: Duty, error: Exception) -> bool:
        before, self._failing[duty.name] = self._failing.get(duty.name), type(error).__name__
        return before != type(error).__name__


async def run_maintenance(
    rounds: Rounds,
    *,
    leads: Callable[[], Awaitable[bool]],
    woken: asyncio.Event,
    stopping: asyncio.Event,
    clock: Callable[[], float],
    sweep_seconds: float = SWEEP_SECONDS,
) -> None:
    """Run duties while this process leads. A pause lasts until `woken`, or `sweep_seconds`."""
    while not stopping.is_set():
        moved = await rounds.run_due(clock()) if await _leads(leads) else 0
        if moved == 0:
            await _pause(woken, sweep_seconds)


async def _leads(leads: Callable[[], Awaitable[bool]]) -> bool:
    with suppress(Unavailable):
        return await leads()
    return False


async def _pause(woken: asyncio.Event, sweep_seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(sweep_seconds):
            await woken.wait()
            woken.clear()
