"""The life of a job, as one function: hold, attempt, decide, record, settle.

Invariants: nothing is sent before its attempt row is durable; nothing is written without the fence; the settlement
comes after the commit and is repaired from Postgres when it is lost. A bug that one job meets ends that job as dead,
with its cost booked: left to its lease it would be met, and paid for, again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

import structlog

from config.marks import synchronous_step
from schemas.admission import Ask, Grant, Penalty, Refusal, RefusalReason, SettleKind, Settlement, Step, Wait
from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, DeadLetter, DeadReason, Decision
from schemas.errors import AccountUnavailable, Unavailable
from schemas.ids import JobId
from schemas.job import Job, Lease, LeasedJob, Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd
from schemas.outcome import Failed, InternalFault, Invalid, Judged, NotAdmitted, NotAllowed, Outcome, Voided
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from tasks.budgets.policy import cheaper_in, first_step
from tasks.execution.decide import decide
from tasks.execution.deps import Deps, OnChunk
from tasks.execution.progress import Progress
from tasks.execution.settlement import (
    AttemptClose,
    close_with_fault,
    close_with_reply,
    close_with_trouble,
    without_content,
)
from tasks.execution.shielded import run_shielded

log = structlog.get_logger()

UNCHECKED = "The reply could not be checked against its contract."

SHORTEST_FREEZE_MS = 250
"""How long a throttle without retry-after freezes its target, so that a retry is not refused again at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """One attempt's outcome, and what it leaves to be written; both None when nothing was sent."""

    outcome: Outcome
    closed: ClosedAttempt | None = None
    settlement: Settlement | None = None


@dataclass
class StreamSink:
    """Whoever listens while the model speaks; what it has heard cannot be taken back."""

    on_chunk: OnChunk | None
    has_heard: bool = False

    @property
    def callback(self) -> OnChunk | None:
        """Where the call sends its chunks; None where nobody listens."""
        return self._hear if self.on_chunk is not None else None

    async def _hear(self, chunk: JsonObject) -> None:
        assert self.on_chunk is not None  # noqa: S101 - only reached through `callback`
        self.has_heard = True
        await self.on_chunk(chunk)


async def run_job(job_id: JobId, generation: int, deps: Deps) -> None:
    """Bring a job one lease further. Safe to call twice: a job that is taken, stale or at rest is left alone."""
    claim = asyncio.ensure_future(deps.jobs.hold(job_id, generation))
    async with _handing_back(claim, deps):
        held = await run_shielded(claim)
        if held is not None:
            async with deps.jobs.renewing(held.lease):
                await live(held, deps)


async def live(
    held: LeasedJob, deps: Deps, on_chunk: OnChunk | None = None, patience_seconds: float = 0.0
) -> tuple[Outcome, Decision]:
    """Attempt, decide and record until the decision is not to ask again. Returns the last outcome and decision.

    A caller who waits, and listens by `on_chunk`, has patience: for so long a retry happens here and not in Postgres.
    """
    with deps.marking(held.job.id):
        return await _live(held, deps, on_chunk, patience_seconds)


async def _live(
    held: LeasedJob, deps: Deps, on_chunk: OnChunk | None, patience_seconds: float
) -> tuple[Outcome, Decision]:
    job, sink = held.job, StreamSink(on_chunk)
    progress = Progress(
        body=job.body,
        chain=deps.models.chain(job.model),
        patient_until=_until(deps, patience_seconds),
        waiting_since=job.waiting_since,
        wait_reason=job.wait_reason,
    )
    found = await _recalled(job, deps) if job.in_suspense else None
    while True:
        tried, found = found or await attempt(job, progress, held.lease.fence, deps, sink.callback), None
        job, progress = _charged(job, tried.closed), replace(progress, streamed=sink.has_heard)
        decision = _decision(job, tried.outcome, progress, deps)
        kept, decision = await run_shielded(_write_down(held.lease, tried, decision, deps))
        if not kept or not isinstance(decision, AskAgain):
            return tried.outcome, decision
        job, progress = replace(job, tries=job.tries + decision.costs_try), progress.after(tried.outcome, decision)
        await _pause_until(decision.not_before, deps)


@asynccontextmanager
async def _handing_back(claim: asyncio.Future[LeasedJob | None], deps: Deps) -> AsyncIterator[None]:
    """A cancelled job goes back to its lane at once, also where its claim was still under way.

    Where the lease was lost, that is somebody else's and no-op.
    """
    try:
        yield
    except asyncio.CancelledError:
        held = None if claim.cancelled() else claim.result()
        if held is not None:
            with suppress(Unavailable):  # then the lease runs out
                await run_shielded(deps.jobs.hand_back(held.lease))
        raise


async def _recalled(job: Job, deps: Deps) -> AttemptResult | None:
    """The same as `_recall`; a bug in it ends the job like one in an attempt."""
    try:
        return await _recall(job, deps)
    except Unavailable:
        raise
    except Exception:  # a bug in the look-up is this job's alone
        log.exception("recall_failed", job_id=job.id)
        return AttemptResult(outcome=InternalFault())


async def _recall(job: Job, deps: Deps) -> AttemptResult | None:
    """What an earlier lease paid for and nobody wrote down: found at the provider, it is not paid for again.

    As many calls of unknown end as the job has tries are the most that it may cost.
    """
    suspended = await deps.jobs.suspended(job.id)
    for opened in suspended:
        reply = None
        with suppress(AccountUnavailable):  # then it may be paid again, as where nothing is kept
            reply = await deps.models.look_up(opened.target, opened.id)
        if reply is not None:
            return await _replied(job, opened, reply, deps)
    if len(suspended) >= job.max_tries:
        return AttemptResult(
            outcome=InternalFault(message=f"{len(suspended)} of its calls ended, and nobody learned how.")
        )
    return None


def _decision(job: Job, outcome: Outcome, progress: Progress, deps: Deps) -> Decision:
    try:
        with synchronous_step():
            return decide(job, outcome, progress, now=deps.now(), jitter=deps.jitter())
    except Exception:  # a bug in deciding is this job's alone
        log.exception("decision_failed", job_id=job.id)
        return _dead_of_a_fault()


async def _write_down(lease: Lease, tried: AttemptResult, decision: Decision, deps: Deps) -> tuple[bool, Decision]:
    """Record and settle; returns whether the fence held, and the decision that was recorded.

    What cannot be written becomes the least that can: a dead letter, and what its call cost.
    """
    try:
        kept = await deps.jobs.record(lease, tried.closed, decision)
    except Unavailable:
        raise
    except Exception:  # what cannot be stored is this job's alone
        log.exception("record_failed", job_id=lease.job_id)
        decision = _dead_of_a_fault()
        kept = await deps.jobs.record(lease, None if tried.closed is None else without_content(tried.closed), decision)
    if tried.settlement is not None:
        await deps.gate.settle(tried.settlement)
    return kept, decision


def _dead_of_a_fault() -> DeadLetter:
    return DeadLetter(reason=DeadReason.INTERNAL_ERROR, message=InternalFault().message)


async def attempt(job: Job, progress: Progress, fence: int, deps: Deps, on_chunk: OnChunk | None) -> AttemptResult:
    """Admit, open, call, judge: one call to one target. Its trouble becomes a value, and so does a bug of ours."""
    try:
        return await _attempt(job, progress, fence, deps, on_chunk)
    except Unavailable:
        raise
    except Exception:  # a bug on the way to the call is this job's alone
        log.exception("attempt_failed", job_id=job.id)
        return AttemptResult(outcome=InternalFault())


async def _attempt(job: Job, progress: Progress, fence: int, deps: Deps, on_chunk: OnChunk | None) -> AttemptResult:
    with synchronous_step():
        plan = deps.models.plan(job, progress.target, progress.body, deps.now())
    if isinstance(plan, Refusal):
        return AttemptResult(outcome=NotAllowed(refusal=plan))
    asked_at = deps.now()
    ask = _ask(job, plan, progress, deps)
    admitted = await deps.gate.admit(ask)
    match admitted:
        case Wait():
            return AttemptResult(
                outcome=_not_admitted(admitted, progress.waited(admitted.reason, asked_at), deps.now())
            )
        case Refusal(reason=RefusalReason.STALE_WINDOW, waited_for=waited_for):
            waited = progress if waited_for is None else progress.waited(waited_for, asked_at)
            return await _attempt(job, waited, fence, deps, on_chunk)
        case Refusal():
            return await _without_grant(job, progress, admitted, deps, on_chunk)
        case Grant():
            opened = _opened(job, plan, ask, admitted, fence=fence, now=deps.now())
        case _:
            assert_never(admitted)
    unsent = Settlement(grant=admitted, kind=SettleKind.RELEASE)
    try:
        is_open = await deps.jobs.open(opened)
    except Unavailable:
        raise
    except Exception:  # raised again; the reservation is not lost with it
        await deps.gate.settle(unsent)
        raise
    if not is_open:
        await deps.gate.settle(unsent)
        return AttemptResult(outcome=Voided())
    return await _answer(job, plan, opened, deps, on_chunk)


async def _without_grant(
    job: Job, progress: Progress, refusal: Refusal, deps: Deps, on_chunk: OnChunk | None
) -> AttemptResult:
    """A refusal; or, where a budget is spent and its policy says so, the answer to the same request before."""
    if refusal.counter is None:
        return AttemptResult(outcome=NotAllowed(refusal=refusal))
    further = [_quoted(job, target, progress, deps) for target in progress.chain[progress.position + 1 :]]
    refusal = replace(refusal, cheaper_in=cheaper_in(refusal.asked_nano_usd, further))
    if on_chunk is None and first_step(refusal, answer_missing=False) is Step.CACHED:
        answer = await deps.answers.same(job)
        if answer is not None:
            return AttemptResult(outcome=answer)
    return AttemptResult(outcome=NotAllowed(refusal=refusal))


def _quoted(job: Job, target: Target, progress: Progress, deps: Deps) -> NanoUsd | None:
    with synchronous_step():
        plan = deps.models.plan(job, target, progress.body, deps.now())
    return plan.quote.cost_nano_usd if isinstance(plan, Plan) else None


async def _answer(job: Job, plan: Plan, opened: OpenedAttempt, deps: Deps, on_chunk: OnChunk | None) -> AttemptResult:
    seconds_left = (job.expires_at - deps.now()).total_seconds()
    try:
        answer = await deps.models.call(plan, opened.id, deadline_seconds=max(seconds_left, 0.001), on_chunk=on_chunk)
    except Exception:  # a bug during the call is this job's alone
        log.exception("call_failed", job_id=job.id, attempt_id=opened.id)
        return _attempt_result(InternalFault(), close_with_fault(opened, deps.now(), answered=False))
    match answer:
        case Reply():
            return await _replied(job, opened, answer, deps)
        case Trouble():
            await _warn_others(job.id, plan.target, answer, deps)
            return _attempt_result(Failed(trouble=answer), close_with_trouble(opened, answer, deps.now()))
        case _:
            assert_never(answer)


async def _replied(job: Job, opened: OpenedAttempt, reply: Reply, deps: Deps) -> AttemptResult:
    judged = await _judged(job, reply, opened, deps)
    try:
        with synchronous_step():
            price = deps.models.served_price(opened, reply)
            return _attempt_result(judged, close_with_reply(opened, reply, judged, deps.now(), price=price))
    except Exception:  # a bug in booking is this job's alone, and the call is paid
        log.exception("booking_failed", job_id=job.id, attempt_id=opened.id)
        return _attempt_result(InternalFault(), close_with_fault(opened, deps.now(), answered=True))


async def _judged(job: Job, reply: Reply, opened: OpenedAttempt, deps: Deps) -> Judged:
    """The verdict; a check that ends in a bug has found no fault with the reply, and no proof of it either."""
    try:
        return await deps.models.judge(reply, job.contract, job.tenant_id)
    except Exception:  # a bug in checking is a complaint, and the call is paid
        log.exception("judging_failed", job_id=job.id, attempt_id=opened.id)
        return Invalid(reply=reply, complaint=UNCHECKED)


def _attempt_result(outcome: Outcome, attempt_close: AttemptClose) -> AttemptResult:
    return AttemptResult(outcome=outcome, closed=attempt_close.closed, settlement=attempt_close.settlement)


async def _warn_others(job_id: JobId, target: Target, trouble: Trouble, deps: Deps) -> None:
    match trouble.kind:
        case TroubleKind.THROTTLE | TroubleKind.RAMP:
            await deps.gate.penalize(target, _penalty(trouble))
        case TroubleKind.MONEY | TroubleKind.AUTH:
            await deps.gate.doubt_account(target.account, trouble.code or trouble.kind.value, job_id)
        case _:
            pass


def _penalty(trouble: Trouble) -> Penalty:
    return Penalty(
        wait_ms=trouble.retry_after_ms or SHORTEST_FREEZE_MS,
        limit=trouble.limit,
        figures=trouble.figures,
        ramp=trouble.kind is TroubleKind.RAMP,
    )


def _until(deps: Deps, patience_seconds: float) -> datetime | None:
    return deps.now() + timedelta(seconds=patience_seconds) if patience_seconds > 0 else None


async def _pause_until(moment: datetime | None, deps: Deps) -> None:
    if moment is not None:
        await deps.pause(max(0.0, (moment - deps.now()).total_seconds()))


def _ask(job: Job, plan: Plan, progress: Progress, deps: Deps) -> Ask:
    """Whoever has waited holds a ticket of what he waited for, in Postgres as in place.

    A wait for the bucket makes a job older. One for the share of its tenant gives it no place before other tenants.
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


def _not_admitted(wait: Wait, waited: Progress, now: datetime) -> NotAdmitted:
    until_at = now + timedelta(milliseconds=wait.retry_after_ms)
    return NotAdmitted(until_at=until_at, since_at=waited.waiting_since or now, reason=wait.reason)


def _opened(job: Job, plan: Plan, ask: Ask, grant: Grant, *, fence: int, now: datetime) -> OpenedAttempt:
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


def _charged(job: Job, closed: ClosedAttempt | None) -> Job:
    if closed is None:
        return job
    return replace(job, spent_nano_usd=NanoUsd(job.spent_nano_usd + closed.cost_nano_usd))
