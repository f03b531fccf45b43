"""The life of a job, as one function: hold, attempt, decide, record, settle.

Invariants: nothing is sent before its attempt row is durable; nothing is written without the fence; the settlement
comes after the commit and is repaired from Postgres when it is lost.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from schemas.admission import Ask, Grant, Penalty, Refusal, RefusalReason, SettleKind, Settlement, Step, Wait
from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, Decision
from schemas.errors import AccountUnavailable, Unavailable
from schemas.ids import JobId
from schemas.job import Held, Job, Lease, Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd
from schemas.outcome import Failed, NotAdmitted, NotAllowed, Outcome, Voided
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from tasks.booking import book_reply, book_trouble
from tasks.decide import decide
from tasks.deps import Deps, OnChunk
from tasks.exhaustion import cheaper_in, first_step
from tasks.progress import Progress
from tasks.unbroken import to_the_end

SHORTEST_FREEZE_MS = 250
"""How long a throttle without retry-after freezes its target, so that the retry does not find the same door shut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One attempt's outcome, and what it leaves to be written; both None when nothing was sent."""

    outcome: Outcome
    closed: ClosedAttempt | None = None
    settlement: Settlement | None = None


@dataclass
class Audience:
    """Whoever listens while the model speaks; what it has heard cannot be taken back."""

    on_chunk: OnChunk | None
    has_heard: bool = False

    @property
    def ear(self) -> OnChunk | None:
        """Where the call sends its chunks; None where nobody listens."""
        return self._hear if self.on_chunk is not None else None

    async def _hear(self, chunk: JsonObject) -> None:
        assert self.on_chunk is not None  # noqa: S101 - only reached through `ear`
        self.has_heard = True
        await self.on_chunk(chunk)


async def run_job(job_id: JobId, generation: int, deps: Deps) -> None:
    """Bring a job one lease further. Safe to call twice: a job that is taken, stale or at rest is left alone."""
    claim = asyncio.ensure_future(deps.jobs.hold(job_id, generation))
    async with _handing_back(claim, deps):
        held = await to_the_end(claim)
        if held is not None:
            async with deps.jobs.beating(held.lease):
                await live(held, deps)


async def live(
    held: Held, deps: Deps, on_chunk: OnChunk | None = None, patience_seconds: float = 0.0
) -> tuple[Outcome, Decision]:
    """Attempt, decide and record until the decision is not to ask again. Returns the last outcome and decision.

    A caller who waits, and listens by `on_chunk`, has patience: for so long a retry happens here and not in Postgres.
    """
    job, audience = held.job, Audience(on_chunk)
    progress = Progress(
        body=job.body,
        chain=deps.models.chain(job.model),
        patient_until=_until(deps, patience_seconds),
        waiting_since=job.waiting_since,
    )
    found = await _recall(job, deps) if job.in_suspense else None
    while True:
        tried, found = found or await attempt(job, progress, held.lease.fence, deps, audience.ear), None
        job, progress = _charged(job, tried.closed), replace(progress, streamed=audience.has_heard)
        decision = decide(job, tried.outcome, progress, now=deps.now(), jitter=deps.jitter())
        kept = await to_the_end(_write_down(held.lease, tried, decision, deps))
        if not kept or not isinstance(decision, AskAgain):
            return tried.outcome, decision
        job, progress = replace(job, tries=job.tries + decision.costs_try), progress.after(tried.outcome, decision)
        await _pause_until(decision.not_before, deps)


@asynccontextmanager
async def _handing_back(claim: asyncio.Future[Held | None], deps: Deps) -> AsyncIterator[None]:
    """A cancelled job goes back to its lane at once, also where its claim was still under way.

    Where the lease was lost, that is somebody else's and no-op.
    """
    try:
        yield
    except asyncio.CancelledError:
        held = None if claim.cancelled() else claim.result()
        if held is not None:
            with suppress(Unavailable):  # then the lease runs out
                await to_the_end(deps.jobs.hand_back(held.lease))
        raise


async def _recall(job: Job, deps: Deps) -> Tried | None:
    """What an earlier lease paid for and nobody wrote down: found at the provider, it is not paid for again."""
    for opened in await deps.jobs.suspended(job.id):
        reply = None
        with suppress(AccountUnavailable):  # then it may be paid again, as where nothing is kept
            reply = await deps.models.look_up(opened.target, opened.id)
        if reply is not None:
            judged = await deps.models.judge(reply, job.contract, job.tenant_id)
            booking = book_reply(opened, reply, judged, deps.now(), price=deps.models.served_price(opened, reply))
            return Tried(outcome=judged, closed=booking.closed, settlement=booking.settlement)
    return None


async def _write_down(lease: Lease, tried: Tried, decision: Decision, deps: Deps) -> bool:
    kept = await deps.jobs.record(lease, tried.closed, decision)
    if tried.settlement is not None:
        await deps.gate.settle(tried.settlement)
    return kept


async def attempt(job: Job, progress: Progress, fence: int, deps: Deps, on_chunk: OnChunk | None) -> Tried:
    """Admit, open, call, judge: one call to one target, whose trouble becomes a value."""
    plan = deps.models.plan(job, progress.target, progress.body, deps.now())
    if isinstance(plan, Refusal):
        return Tried(outcome=NotAllowed(refusal=plan))
    since_at = progress.waiting_since or deps.now()
    ask = _ask(job, plan, progress, deps)
    admitted = await deps.gate.admit(ask)
    match admitted:
        case Wait():
            return Tried(outcome=_not_admitted(admitted, since_at, deps.now()))
        case Refusal(reason=RefusalReason.STALE_WINDOW):
            return await attempt(job, replace(progress, waiting_since=since_at), fence, deps, on_chunk)
        case Refusal():
            return await _without_grant(job, progress, admitted, deps, on_chunk)
        case Grant():
            opened = _opened(job, plan, ask, admitted, fence=fence, now=deps.now())
        case _:
            assert_never(admitted)
    if not await deps.jobs.open(opened):
        await deps.gate.settle(Settlement(grant=admitted, kind=SettleKind.RELEASE))
        return Tried(outcome=Voided())
    return await _answer(job, plan, opened, deps, on_chunk)


async def _without_grant(job: Job, progress: Progress, refusal: Refusal, deps: Deps, on_chunk: OnChunk | None) -> Tried:
    """A refusal; or, where a budget is spent and its policy says so, the answer to the same request before."""
    if refusal.counter is None:
        return Tried(outcome=NotAllowed(refusal=refusal))
    further = [_quoted(job, target, progress, deps) for target in progress.chain[progress.position + 1 :]]
    refusal = replace(refusal, cheaper_in=cheaper_in(refusal.asked_nano_usd, further))
    if on_chunk is None and first_step(refusal, answer_missing=False) is Step.CACHED:
        answer = await deps.answers.same(job)
        if answer is not None:
            return Tried(outcome=answer)
    return Tried(outcome=NotAllowed(refusal=refusal))


def _quoted(job: Job, target: Target, progress: Progress, deps: Deps) -> NanoUsd | None:
    plan = deps.models.plan(job, target, progress.body, deps.now())
    return plan.quote.cost_nano_usd if isinstance(plan, Plan) else None


async def _answer(job: Job, plan: Plan, opened: OpenedAttempt, deps: Deps, on_chunk: OnChunk | None) -> Tried:
    seconds_left = (job.expires_at - deps.now()).total_seconds()
    answer = await deps.models.call(plan, opened.id, deadline_seconds=max(seconds_left, 0.001), on_chunk=on_chunk)
    match answer:
        case Reply():
            judged = await deps.models.judge(answer, job.contract, job.tenant_id)
            booking = book_reply(opened, answer, judged, deps.now(), price=deps.models.served_price(opened, answer))
            return Tried(outcome=judged, closed=booking.closed, settlement=booking.settlement)
        case Trouble():
            await _warn_others(plan.target, answer, deps)
            booking = book_trouble(opened, answer, deps.now())
            return Tried(outcome=Failed(trouble=answer), closed=booking.closed, settlement=booking.settlement)
        case _:
            assert_never(answer)


async def _warn_others(target: Target, trouble: Trouble, deps: Deps) -> None:
    match trouble.kind:
        case TroubleKind.THROTTLE | TroubleKind.RAMP:
            await deps.gate.penalize(target, _penalty(trouble))
        case TroubleKind.MONEY | TroubleKind.AUTH:
            await deps.gate.stop_account(target.account, trouble.code or trouble.kind.value)
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
    """Whoever has waited holds a ticket and has aged, in Postgres as in place."""
    since = progress.waiting_since
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
    )


def _not_admitted(wait: Wait, since_at: datetime, now: datetime) -> NotAdmitted:
    until_at = now + timedelta(milliseconds=wait.retry_after_ms)
    return NotAdmitted(until_at=until_at, since_at=since_at, reason=wait.reason)


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
