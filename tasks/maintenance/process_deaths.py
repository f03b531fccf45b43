"""Reports processes of this machine that died, by their marks."""

import asyncio
from pathlib import Path
from typing import NoReturn

import structlog

from config.marks import last_marks
from schemas.errors import Unavailable
from storage.queue.process_deaths import DeathTable

log = structlog.get_logger()

LOOK_SECONDS = 0.5
"""The watchdog ends a blocked loop 10 s after its last tick, and its leases run out 1 s later at the earliest. The
report must be stored by then."""


async def keep_reporting(home: Path, deaths: DeathTable) -> NoReturn:
    """Report deaths until cancelled. While Postgres is unavailable, the marks stay."""
    while True:
        try:
            await report_deaths(home, deaths)
        except Unavailable as error:
            log.debug("deaths_not_reported", reason=error.message)  # users of Postgres log this
        await asyncio.sleep(LOOK_SECONDS)


async def report_deaths(home: Path, deaths: DeathTable) -> int:
    """Report marks below this home; returns how many. Raises PostgresUnavailable."""
    with last_marks(home) as marks:
        if marks:
            await deaths.report(marks)
            for mark in marks:
                log.warning("process_died", holder=mark.holder, job_id=mark.job_id)
        return len(marks)
