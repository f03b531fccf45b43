"""Estimates how many letters a replay would move, and its maximum cost.

The first letters are priced as admission would quote them; the rest at their mean.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import structlog

from schemas.job import Job
from schemas.jsons import parse
from schemas.money import ZERO, NanoUsd
from schemas.replay import DeadLetters, Estimate, Patch, ReplayedLetter
from schemas.states import JobState
from storage.database.mapping import read_as, values_of
from storage.dead_letters.reads import WholeLetter
from storage.rows import contract_from
from tasks.dead_letters.patch import patched
from tasks.execution.deps import Planner
from tasks.quotes.quote import dearest_call, worst_case

log = structlog.get_logger()

MOST_PRICED = 2_000
"""A second or two of work, and enough for their mean."""


class LetterReads(Protocol):
    """Reads dead letters."""

    async def count(self, which: DeadLetters) -> int:
        """Count dead letters."""

    def whole(self, which: DeadLetters, *, attempts: bool = True) -> AsyncIterator[WholeLetter]:
        """Read dead letters with their requests."""


class ReplayPrices:
    """Estimates replays."""

    def __init__(self, letters: LetterReads, planner: Planner) -> None:
        self._letters = letters
        self._planner = planner

    async def estimate(self, which: DeadLetters, patch: Patch, now: datetime) -> Estimate:
        """Count and price the letters."""
        jobs = await self._letters.count(which)
        first = [
            None if job is None else self._price(job, patch, now)
            async for job in first_jobs(self._letters, which, MOST_PRICED)
        ]
        prices = [price for price in first if price is not None]
        scale, priced = max(jobs, len(first)), max(len(first), 1)
        return Estimate(
            jobs=jobs,
            priced=len(first),
            unpriced=sum(price.one_call is None for price in prices),
            refused=len(first) - len(prices),
            one_call_nano_usd=NanoUsd(sum(price.one_call or 0 for price in prices) * scale // priced),
            worst_case_nano_usd=NanoUsd(sum(price.worst_case for price in prices) * scale // priced),
        )

    def _price(self, job: Job, patch: Patch, now: datetime) -> "_Price | None":
        """Return None where the replay would refuse the letter."""
        try:
            patched_job = _again(job, patch, now)
            if patched_job is None:
                return None
            quoted = dearest_call(self._planner, patched_job, now)
            return _Price(quoted, worst_case(patched_job, quoted or ZERO))
        except Exception:  # a body that an older version accepted: the replay refuses only that letter
            log.exception("letter_cannot_be_priced", job_id=job.id)
            return None


async def first_jobs(letters: LetterReads, which: DeadLetters, most: int) -> AsyncIterator[Job | None]:
    """Yield the first letters as jobs; None for an unreadable one."""
    seen = 0
    async for dead_letter in letters.whole(which, attempts=False):
        if seen == most:
            return
        seen += 1
        yield _job_if_readable(dead_letter)


class _Price(NamedTuple):
    one_call: NanoUsd | None
    worst_case: int


def _again(job: Job, patch: Patch, now: datetime) -> Job | None:
    """Return the replayed job; None where the patch does not fit."""
    letter = ReplayedLetter(
        id=job.id, tenant_id=job.tenant_id, generation=job.generation, rested_at=job.created_at, body=job.body
    )
    patched_job = patched(letter, patch)
    if not isinstance(patched_job, ReplayedLetter):
        return None
    return replace(
        job,
        body=patched_job.body or job.body,
        model=patched_job.model or job.model,
        contract=patched_job.contract or job.contract,
        lane=patch.lane or job.lane,
        state=JobState.QUEUED,
        tries=0,
        max_cost_nano_usd=patch.max_cost_nano_usd or job.max_cost_nano_usd,
        expires_at=now + timedelta(seconds=patch.deadline_seconds),
    )


def _job_if_readable(dead_letter: WholeLetter) -> Job | None:
    try:
        return _job(dead_letter)
    except Exception:  # a request that an older version accepted: only that letter has no price
        log.exception("letter_unreadable", job_id=dead_letter.letter.id)
        return None


def _job(dead_letter: WholeLetter) -> Job:
    letter = dead_letter.letter
    return read_as(
        Job,
        values_of(letter) | values_of(dead_letter),
        body=parse(dead_letter.body),
        contract=contract_from(dead_letter.contract),
        request_digest="",
        idempotency_key=None,
        expires_at=letter.rested_at,
        state=JobState.DEAD,
        generation=0,
        fence=0,
        waiting_since=None,
        wait_reason=None,
        in_suspense=False,
    )
