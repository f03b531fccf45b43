"""Measures one event loop's delays; ends its process if it blocks (`config.deadlines`)."""

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
"""Time between two warnings, so that minutes of overload do not log a thousand lines."""

STARTING_SECONDS = 60
"""How long the loop may block while a process starts, because libraries are loaded on it, perhaps from a cold disk."""


class Alarm:
    """Logs the worst delay of the loop since the last time, every few seconds at most."""

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
        """Apply the configured limit from now on, because the slow start is over."""
        self.seconds = self._seconds


async def watch(observe: Callable[[float], object], watchdog: Watchdog, deadline: Deadline) -> NoReturn:
    """Measure the running loop's delay at every tick and renew the deadline, until cancelled.

    `observe` gets seconds.
    """
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
    """Observe for a process that has no metrics."""


@asynccontextmanager
async def watched(seconds: int, observe: Callable[[float], object] = _note_nothing) -> AsyncIterator[Watchdog]:
    """Watch the running loop; SIGALRM ends the process if it blocks for `seconds`.

    Until the block calls `has_started`, the limit is at least `STARTING_SECONDS`. One per process, because the timer
    and the signal belong to the process.
    """
    watchdog = Watchdog(seconds)
    watching = asyncio.create_task(watch(observe, watchdog, deadline_after(seconds)), name="watchdog")
    try:
        yield watchdog
    finally:
        watching.cancel()
        await asyncio.wait([watching])
