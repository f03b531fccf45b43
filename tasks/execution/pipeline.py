"""Runs one job: claim, attempt, decide, record, settle.

Invariants: nothing is sent before its attempt row is stored; nothing is written without the fence; settlement follows
the commit.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from config.marks import synchronous_step
from schemas.admission import Grant, Refusal, RefusalReason, SettleKind, Settlement, Step, Wait
from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, Decision, WaitInPlace
from schemas.errors import AccountUnavailable, Unavailable
from schemas.ids import JobId
from schemas.job import Job, Lease, LeasedJob, Target
from schemas.money import NanoUsd
from schemas.outcome import Failed, InternalFault, Invalid, Judged, NotAllowed, Outcome, Voided
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from tasks.budgets.policy import cheaper_in, first_step
from tasks.execution.asks import ask_of, not_admitted, opened_attempt, penalty_of
from tasks.execution.deps import Deps, OnChunk
from tasks.execution.faults import dead_of_a_fault, guarded
from tasks.execution.progress import Progress
from tasks.execution.results import AttemptResult, LeaseEnd
from tasks.execution.retry_policy import decide
from tasks.execution.settlement import (
    AttemptClose,
    close_with_fault,
    close_with_reply,
    close_with_trouble,
    without_content,
)
from tasks.execution.shielded import run_shielded
from tasks.execution.stream_sink import StreamSink

UNCHECKED = "The reply could not be checked against its contract."


async def run_job(job_id: JobId, generation: int, deps: Deps) -> None:
    """Run a job for one lease. Safe to call twice: an unclaimable job is left alone."""
    claim = asyncio.ensure_future(deps.jobs.hold(job_id, generation))
    async with _handing_back(claim, deps):
        held = await run_shielded(claim)
        if held is not None:
            async with deps.jobs.renewing(held.lease):
                await live(held, deps)


async def live(held: LeasedJob, deps: Deps, on_chunk: OnChunk | None = None, patience_seconds: float = 0.0) -> LeaseEnd:
    """Attempt, decide and record until the lease ends.

    For a synchronous caller, `on_chunk` receives the stream, and waits within `patience_seconds` happen here instead of
    in Postgres.
    """
    with deps.marking(held.job.id):
        return await _live(held, deps, on_chunk, patience_seconds)


async def _live(held: LeasedJob, deps: Deps, on_chunk: OnChunk | None, patience_seconds: float) -> LeaseEnd:
    job, sink = held.job, StreamSink(on_chunk)
    progress = Progress(
        body=job.body,
        chain=deps.planner.chain(job.model),
        patient_until=_until(deps, patience_seconds),
        waiting_since=job.waiting_since,
        wait_reason=job.wait_reason,
    )
    recalled = await guarded(_recall(job, deps), _faulty, "recall_failed", job_id=job.id) if job.in_suspense else None
    while True:
        tried, recalled = recalled or await attempt(job, progress, held.lease.fence, deps, sink.callback), None
        job = _charged(job, tried.closed)
        waited_seconds = progress.waited_seconds + tried.waited_seconds
        progress = replace(progress, streamed=sink.has_received, waited_seconds=waited_seconds)
        decision = await guarded(
            _decide(job, tried.outcome, progress, deps), dead_of_a_fault, "decision_failed", job_id=job.id
        )
        fence_held, decision = await run_shielded(_write_down(held.lease, tried, decision, deps))
        if not fence_held or not isinstance(decision, AskAgain | WaitInPlace):
            return LeaseEnd(outcome=tried.outcome, decision=decision, waited_ms=int(waited_seconds * 1_000))
        progress = progress.after(tried.outcome, decision)
        if isinstance(decision, WaitInPlace):
            job = replace(job, tries=job.tries + decision.costs_try)
            pause_seconds = max(0.0, (decision.until_at - deps.now()).total_seconds())
            await deps.pause(pause_seconds)
            progress = replace(progress, waited_seconds=waited_seconds + pause_seconds)


@asynccontextmanager
async def _handing_back(claim: asyncio.Future[LeasedJob | None], deps: Deps) -> AsyncIterator[None]:
    """Hand the job back on cancellation, even while its claim is under way."""
    try:
        yield
    except asyncio.CancelledError:
        held = None if claim.cancelled() else claim.result()
        if held is not None:
            with suppress(Unavailable):  # the lease then runs out by itself
                await run_shielded(deps.jobs.hand_back(held.lease))
        raise


async def _recall(job: Job, deps: Deps) -> AttemptResult | None:
    """Look up lost replies of earlier leases, so that they are not paid twice."""
    suspended = await deps.jobs.suspended(job.id)
    for opened in suspended:
        reply = None
        with suppress(AccountUnavailable):  # then it may be paid again, as with a provider that stores no replies
            reply = await deps.models.look_up(opened.target, opened.id)
        if reply is not None:
            return await _replied(job, opened, reply, deps)
    if len(suspended) >= job.max_tries:
        return AttemptResult(
            outcome=InternalFault(message=f"{len(suspended)} of its calls ended, and nobody learned how.")
        )
    return None


async def _decide(job: Job, outcome: Outcome, progress: Progress, deps: Deps) -> Decision:
    with synchronous_step():
        return decide(job, outcome, progress, now=deps.now(), jitter=deps.jitter())


async def _write_down(lease: Lease, tried: AttemptResult, decision: Decision, deps: Deps) -> tuple[bool, Decision]:
    """Return whether the fence held, and the recorded decision.

    A dead letter with the call's cost replaces an unwritable record.
    """
    closed = tried.closed
    fence_held = await guarded(
        deps.jobs.record(lease, closed, decision), _nothing, "record_failed", job_id=lease.job_id
    )
    if fence_held is None:
        closed, decision = closed and without_content(closed), dead_of_a_fault()
        fence_held = await deps.jobs.record(lease, closed, decision)
    deps.observer.recorded(closed, decision, kept=fence_held)
    if tried.settlement is not None:
        await deps.gate.settle(tried.settlement)
    return fence_held, decision


async def attempt(job: Job, progress: Progress, fence: int, deps: Deps, on_chunk: OnChunk | None) -> AttemptResult:
    """Make one call to one target: admit, open, call, judge. Trouble and bugs become values."""
    return await guarded(_attempt(job, progress, fence, deps, on_chunk), _faulty, "attempt_failed", job_id=job.id)


async def _attempt(job: Job, progress: Progress, fence: int, deps: Deps, on_chunk: OnChunk | None) -> AttemptResult:
    with synchronous_step():
        plan = deps.planner.plan(job, progress.target, progress.body, deps.now())
    if isinstance(plan, Refusal):
        return AttemptResult(outcome=NotAllowed(refusal=plan))
    asked_at = deps.now()
    ask, began = ask_of(job, plan, progress, deps), deps.clock()
    admitted = await deps.gate.admit(ask)
    waited_seconds = deps.clock() - began
    deps.observer.admitted(ask, admitted, waited_seconds)
    match admitted:
        case Grant():
            opened = opened_attempt(job, plan, ask, admitted, fence=fence, now=deps.now())
            tried = await _open_and_call(job, plan, opened, deps, on_chunk)
        case Wait():
            waited = progress.waited(admitted.reason, asked_at)
            tried = AttemptResult(outcome=not_admitted(admitted, waited, deps.now()))
        case Refusal(reason=RefusalReason.STALE_WINDOW, waited_for=waited_for):
            waited = progress if waited_for is None else progress.waited(waited_for, asked_at)
            tried = await _attempt(job, waited, fence, deps, on_chunk)
        case Refusal():
            tried = await _without_grant(job, progress, admitted, deps, on_chunk)
        case _:
            assert_never(admitted)
    return replace(tried, waited_seconds=tried.waited_seconds + waited_seconds)


async def _without_grant(
    job: Job, progress: Progress, refusal: Refusal, deps: Deps, on_chunk: OnChunk | None
) -> AttemptResult:
    """Return the refusal, or an earlier answer if the budget's policy allows it."""
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
        plan = deps.planner.plan(job, target, progress.body, deps.now())
    return plan.quote.cost_nano_usd if isinstance(plan, Plan) else None


async def _open_and_call(
    job: Job, plan: Plan, opened: OpenedAttempt, deps: Deps, on_chunk: OnChunk | None
) -> AttemptResult:
    is_open = await guarded(deps.jobs.open(opened), _nothing, "opening_failed", job_id=job.id)
    if not is_open:
        await deps.gate.settle(Settlement(grant=opened.grant, kind=SettleKind.RELEASE))
        return _faulty() if is_open is None else AttemptResult(outcome=Voided())
    seconds_left, began = (job.expires_at - deps.now()).total_seconds(), deps.clock()
    answer = await guarded(
        deps.models.call(plan, opened.id, deadline_seconds=max(seconds_left, 0.001), on_chunk=on_chunk),
        _nothing,
        "call_failed",
        job_id=job.id,
        attempt_id=opened.id,
    )
    if answer is None:
        return _closed(InternalFault(), close_with_fault(opened, deps.now(), answered=False))
    deps.observer.called(plan.target, answer, deps.clock() - began)
    if isinstance(answer, Reply):
        return await _replied(job, opened, answer, deps)
    await _warn_others(job.id, plan.target, answer, deps)
    return _closed(Failed(trouble=answer), close_with_trouble(opened, answer, deps.now()))


async def _replied(job: Job, opened: OpenedAttempt, reply: Reply, deps: Deps) -> AttemptResult:
    """A bug in the check makes the reply invalid."""
    judged = await guarded(
        deps.models.judge(reply, job.contract, job.tenant_id),
        lambda: Invalid(reply=reply, complaint=UNCHECKED),
        "judging_failed",
        job_id=job.id,
        attempt_id=opened.id,
    )
    return await guarded(
        _close(opened, reply, judged, deps),
        lambda: _closed(InternalFault(), close_with_fault(opened, deps.now(), answered=True)),
        "booking_failed",
        job_id=job.id,
        attempt_id=opened.id,
    )


async def _close(opened: OpenedAttempt, reply: Reply, judged: Judged, deps: Deps) -> AttemptResult:
    with synchronous_step():
        price = deps.models.served_price(opened, reply)
        return _closed(judged, close_with_reply(opened, reply, judged, deps.now(), price=price))


def _faulty() -> AttemptResult:
    return AttemptResult(outcome=InternalFault())


def _nothing() -> None:
    """Stand in for a step's result; the caller decides what follows."""


def _closed(outcome: Outcome, attempt_close: AttemptClose) -> AttemptResult:
    return AttemptResult(outcome=outcome, closed=attempt_close.closed, settlement=attempt_close.settlement)


async def _warn_others(job_id: JobId, target: Target, trouble: Trouble, deps: Deps) -> None:
    match trouble.kind:
        case TroubleKind.THROTTLE | TroubleKind.RAMP:
            await deps.gate.penalize(target, penalty_of(trouble))
        case TroubleKind.MONEY | TroubleKind.AUTH:
            await deps.gate.doubt_account(target.account, trouble.code or trouble.kind.value, job_id)
        case _:
            pass


def _until(deps: Deps, patience_seconds: float) -> datetime | None:
    return deps.now() + timedelta(seconds=patience_seconds) if patience_seconds > 0 else None


def _charged(job: Job, closed: ClosedAttempt | None) -> Job:
    if closed is None:
        return job
    return replace(job, spent_nano_usd=NanoUsd(job.spent_nano_usd + closed.cost_nano_usd))
