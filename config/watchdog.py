"""Measures an event loop's delays; ends its process if it blocks (`config.deadlines`)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import structlog

from config.deadlines import Deadline, deadline_after

log = structlog.get_logger()

TICK_SECONDS = 0.1
ALARM_SECONDS = 0.25
"""A delay that a critical job would notice."""

SILENCE_SECONDS = 5.0
"""Time between two warnings, so that overload does not flood the log."""

STARTING_SECONDS = 60
"""Limit at start, because libraries are loaded on the loop, perhaps from a cold disk."""


class Alarm:
    """Logs the worst delay of the loop, every few seconds at most."""

    def __init__(self) -> None:
        self._worst_seconds = 0.0
        self._quiet_until = 0.0

    def hear(self, delay_seconds: float, now_seconds: float) -> bool:
        """Record one delay; returns whether it was logged."""
        self._worst_seconds = max(self._worst_seconds, delay_seconds)
        if self._worst_seconds < ALARM_SECONDS or now_seconds < self._quiet_until:
            return False
        log.warning("loop_delayed", worst_ms=round(self._worst_seconds * 1000))
        self._worst_seconds, self._quiet_until = 0.0, now_seconds + SILENCE_SECONDS
        return True


class Watchdog:
    """How long the loop may block now."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self.seconds = max(seconds, STARTING_SECONDS)

    def has_started(self) -> None:
        """Apply the configured limit, because the slow start is over."""
        self.seconds = self._seconds


async def watch(observe: Callable[[float], object], watchdog: Watchdog, deadline: Deadline) -> NoReturn:
    """Measure the loop's delay in seconds and renew the deadline, until cancelled."""
    loop, alarm = asyncio.get_running_loop(), Alarm()
    try:
        while True:
            deadline.renew(watchdog.seconds)
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            delay_seconds = max(0.0, loop.time() - due)
            observe(delay_seconds)
            alarm.hear(delay_seconds, loop.time())
    finally:
        deadline.cancel()


def _note_nothing(_seconds: float) -> None:
    """Observe without metrics."""


@asynccontextmanager
async def watched(seconds: int, observe: Callable[[float], object] = _note_nothing) -> AsyncIterator[Watchdog]:
    """Watch the running loop; SIGALRM ends the process if it blocks for `seconds`.

    At least `STARTING_SECONDS` until `has_started`. One per process, which owns timer and signal.
    """
    watchdog = Watchdog(seconds)
    watching = asyncio.create_task(watch(observe, watchdog, deadline_after(seconds)), name="watchdog")
    try:
        yield watchdog
    finally:
        watching.cancel()
        await asyncio.wait([watching])
