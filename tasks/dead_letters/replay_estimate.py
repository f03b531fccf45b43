"""Estimates how many letters a replay would move and its maximum cost; moves nothing.

The first letters are priced one by one, patched, as admission would quote them; the rest at their mean.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import structlog

from schemas.job import Job
from schemas.money import ZERO, NanoUsd
from schemas.replay import DeadBody, DeadLetters, Estimate, Patch, PatchedJob
from schemas.states import JobState
from tasks.dead_letters.patch import patched
from tasks.execution.deps import Planner
from tasks.quotes.quote import dearest_call, worst_case

log = structlog.get_logger()

MOST_PRICED = 2_000
"""Letters priced one by one: a second or two of work, and enough for their mean to represent the rest."""


class Letters(Protocol):
    """Counts dead letters and reads them as jobs."""

    async def count(self, which: DeadLetters) -> int:
        """The number of dead letters."""

    def jobs(self, which: DeadLetters, most: int) -> AsyncIterator[Job | None]:
        """The first `most` letters as the jobs that they were; None for one that cannot be read."""


class ReplayPrices:
    """Estimates replays."""

    def __init__(self, letters: Letters, planner: Planner) -> None:
        self._letters = letters
        self._planner = planner

    async def estimate(self, which: DeadLetters, patch: Patch, now: datetime) -> Estimate:
        """Count and price what the replay would move."""
        jobs, priced, unpriced, refused, one_call, worst = await self._letters.count(which), 0, 0, 0, 0, 0
        async for job in self._letters.jobs(which, MOST_PRICED):
            priced += 1
            price = None if job is None else self._price(job, patch, now)
            if price is None:
                refused += 1
                continue
            unpriced += price.one_call is None
            one_call += price.one_call or 0
            worst += price.worst_case
        scale = max(jobs, priced)
        return Estimate(
            jobs=jobs,
            priced=priced,
            unpriced=unpriced,
            refused=refused,
            one_call_nano_usd=NanoUsd(one_call * scale // max(priced, 1)),
            worst_case_nano_usd=NanoUsd(worst * scale // max(priced, 1)),
        )

    def _price(self, job: Job, patch: Patch, now: datetime) -> "_Price | None":
        """The possible cost of replaying one letter; None where it would be refused."""
        try:
            patched_job = _again(job, patch, now)
            if patched_job is None:
                return None
            quoted = dearest_call(self._planner, patched_job, now)
            return _Price(quoted, worst_case(patched_job, quoted or ZERO))
        except Exception:  # a body that an older version accepted: the replay refuses only that letter
            log.exception("letter_cannot_be_priced", job_id=job.id)
            return None


class _Price(NamedTuple):
    one_call: NanoUsd | None
    worst_case: int


def _again(job: Job, patch: Patch, now: datetime) -> Job | None:
    """The job as the replay would queue it; None where the patch does not fit."""
    letter = DeadBody(
        id=job.id, tenant_id=job.tenant_id, generation=job.generation, rested_at=job.created_at, body=job.body
    )
    patched_job = patched(letter, patch)
    if not isinstance(patched_job, PatchedJob):
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
