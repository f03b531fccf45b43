"""What a replay would move, and what that may cost at most; nothing is moved.

The first letters are priced one by one, with the patch applied, as admission would quote them; the rest by their mean.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from schemas.admission import Refusal
from schemas.errors import UnknownModel
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.money import ZERO, NanoUsd
from schemas.plan import Plan
from schemas.replay import DeadBody, DeadLetters, Estimate, Mended, Patch
from schemas.states import JobState
from tasks.decide import MAX_EXTENSIONS
from tasks.mend import mend

MOST_PRICED = 2_000
"""Letters priced one by one: a second or two of work, and enough for their mean to stand for the rest."""


class PricedModels(Protocol):
    """The part of `tasks.deps.Models` that knows prices."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """Final body, price and worst case of one call."""


class Letters(Protocol):
    """Dead letters to be counted and read as jobs."""

    async def count(self, which: DeadLetters) -> int:
        """How many there are."""

    def jobs(self, which: DeadLetters, most: int) -> AsyncIterator[Job]:
        """The first of them as the jobs that they would be again."""


class ReplayPrices:
    """Estimates of replays."""

    def __init__(self, letters: Letters, models: PricedModels) -> None:
        self._letters = letters
        self._models = models

    async def estimate(self, which: DeadLetters, patch: Patch, now: datetime) -> Estimate:
        """Count and price what the replay would move."""
        jobs, priced, unpriced, refused, one_call, worst = await self._letters.count(which), 0, 0, 0, 0, 0
        async for job in self._letters.jobs(which, MOST_PRICED):
            priced += 1
            mended = _again(job, patch, now)
            if mended is None:
                refused += 1
                continue
            quoted = self._quote(mended, now)
            unpriced += quoted is None
            one_call += quoted or 0
            worst += _worst_case(mended, quoted or ZERO)
        scale = max(jobs, priced)
        return Estimate(
            jobs=jobs,
            priced=priced,
            unpriced=unpriced,
            refused=refused,
            one_call_nano_usd=NanoUsd(one_call * scale // max(priced, 1)),
            worst_case_nano_usd=NanoUsd(worst * scale // max(priced, 1)),
        )

    def _quote(self, job: Job, now: datetime) -> NanoUsd | None:
        """The dearest call that its chain allows; None where no price is known."""
        try:
            plans = [self._models.plan(job, target, job.body, now) for target in self._models.chain(job.model)]
        except UnknownModel:
            return None
        return max(
            (one.quote.cost_nano_usd for one in plans if isinstance(one, Plan) and one.price.is_known), default=None
        )


def _again(job: Job, patch: Patch, now: datetime) -> Job | None:
    """The job as the replay would queue it; None where the patch does not fit."""
    letter = DeadBody(
        id=job.id, tenant_id=job.tenant_id, generation=job.generation, rested_at=job.created_at, body=job.body
    )
    mended = mend(letter, patch)
    if not isinstance(mended, Mended):
        return None
    return replace(
        job,
        body=mended.body or job.body,
        model=mended.model or job.model,
        contract=mended.contract or job.contract,
        lane=patch.lane or job.lane,
        state=JobState.QUEUED,
        tries=0,
        max_cost_nano_usd=patch.max_cost_nano_usd or job.max_cost_nano_usd,
        expires_at=now + timedelta(seconds=patch.deadline_seconds),
    )


def _worst_case(job: Job, quoted: NanoUsd) -> int:
    """Every try ends in trouble after all its reprompts; a call with more room costs up to twice as much.

    A job whose own ceiling is nearer makes one more call than it can pay for, because it is looked at before a call.
    """
    calls = job.max_tries * (1 + job.max_reprompts + 2 * MAX_EXTENSIONS)
    if job.max_cost_nano_usd is None:
        return calls * quoted
    return min(calls * quoted, max(0, job.max_cost_nano_usd - job.spent_nano_usd) + 2 * quoted)
