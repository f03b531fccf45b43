"""Reports processes of this machine that died. Each live process looks for the marks of dead ones."""

import asyncio
from pathlib import Path
from typing import NoReturn

import structlog

from config.marks import last_marks
from schemas.errors import Unavailable
from storage.queue.process_deaths import DeathTable

log = structlog.get_logger()

LOOK_SECONDS = 0.5
"""Interval of looking. A blocked loop is ended 10 s after its last tick. Its leases run out 11 s after that tick at the
earliest: 15 s after the last heartbeat, which may have been 4 s before. The report must be stored by then."""


async def keep_reporting(home: Path, deaths: DeathTable) -> NoReturn:
    """Report deaths until cancelled. While Postgres is away, the marks stay in place."""
    while True:
        try:
            await report_deaths(home, deaths)
        except Unavailable as error:
            log.debug("deaths_not_reported", reason=error.message)  # users of Postgres log that it is away
        await asyncio.sleep(LOOK_SECONDS)


async def report_deaths(home: Path, deaths: DeathTable) -> int:
    """Report the marks of dead processes below this home; returns how many. Raises PostgresUnavailable."""
    with last_marks(home) as marks:
        if marks:
            await deaths.report(marks)
            for mark in marks:
                log.warning("process_died", holder=mark.holder, job_id=mark.job_id)
        return len(marks)
