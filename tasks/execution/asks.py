"""Builds requests to the gate and rows of new attempts. Pure."""

from datetime import datetime, timedelta

from schemas.admission import Ask, Grant, Penalty, Wait
from schemas.attempt import OpenedAttempt
from schemas.job import Job
from schemas.outcome import NotAdmitted
from schemas.plan import Plan
from schemas.reply import Trouble, TroubleKind
from tasks.execution.deps import Deps
from tasks.execution.progress import Progress

SHORTEST_FREEZE_MS = 250
"""Freeze after a throttle without retry-after, so that a retry is not refused at once."""


def ask_of(job: Job, plan: Plan, progress: Progress, deps: Deps) -> Ask:
    """Build the admission request, with the ticket of a job that waited.

    Only a wait for the bucket adds to the job's age.
    """
    since = None if progress.waits_for_share else progress.waiting_since
    return Ask(
        attempt_id=deps.attempt_id(),
        target=plan.target,
        lane=job.lane,
        tokens=plan.quote.permits,
        cost_nano_usd=plan.quote.cost_nano_usd,
        epoch=deps.gate.epoch,
        counters=plan.counters,
        waited_ms=max(0, int((deps.now() - since).total_seconds() * 1_000)) if since else 0,
        has_ticket=since is not None,
        share=plan.share,
        has_share_ticket=progress.waits_for_share,
    )


def not_admitted(wait: Wait, waited: Progress, now: datetime) -> NotAdmitted:
    """Return the outcome of an attempt that must wait."""
    until_at = now + timedelta(milliseconds=wait.retry_after_ms)
    return NotAdmitted(until_at=until_at, since_at=waited.waiting_since or now, reason=wait.reason)


def opened_attempt(job: Job, plan: Plan, ask: Ask, grant: Grant, *, fence: int, now: datetime) -> OpenedAttempt:
    """Build the row that is stored before anything is sent."""
    return OpenedAttempt(
        id=ask.attempt_id,
        job_id=job.id,
        fence=fence,
        target=plan.target,
        grant=grant,
        price=plan.price,
        request=plan.body,
        opened_at=now,
    )


def penalty_of(trouble: Trouble) -> Penalty:
    """Return a throttle's penalty, which applies to every caller of the target."""
    return Penalty(
        wait_ms=trouble.retry_after_ms or SHORTEST_FREEZE_MS,
        limit=trouble.limit,
        figures=trouble.figures,
        ramp=trouble.kind is TroubleKind.RAMP,
    )
