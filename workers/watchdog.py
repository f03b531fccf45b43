"""Watches one event loop: a blocking call anywhere stalls every job of the process, so delays are measured and said."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog

log = structlog.get_logger()

TICK_SECONDS = 0.1
ALARM_SECONDS = 0.25
"""A delay that a critical job would notice."""

SILENCE_SECONDS = 5.0
"""Between two alarms: a loop that is overloaded for minutes is one story, not a thousand lines."""


class Alarm:
    """Says that the loop is late, but not more often than every few seconds, and then with the worst since."""

    def __init__(self) -> None:
        self._worst_seconds = 0.0
        self._quiet_until = 0.0

    def hear(self, delay_seconds: float, now_seconds: float) -> bool:
        """Take note of one delay; returns whether it was said aloud."""
        self._worst_seconds = max(self._worst_seconds, delay_seconds)
        if self._worst_seconds < ALARM_SECONDS or now_seconds < self._quiet_until:
            return False
        log.warning("loop_delayed", worst_ms=round(self._worst_seconds * 1000))
        self._worst_seconds, self._quiet_until = 0.0, now_seconds + SILENCE_SECONDS
        return True


async def watch(observe: Callable[[float], object]) -> NoReturn:
    """Measure the running loop's delay at every tick until cancelled; `observe` gets seconds."""
    loop, alarm = asyncio.get_running_loop(), Alarm()
    while True:
        due = loop.time() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        delay_seconds = max(0.0, loop.time() - due)
        observe(delay_seconds)
        alarm.hear(delay_seconds, loop.time())
