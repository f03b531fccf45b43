"""Decides what follows an attempt's outcome. Pure; its tests are a table.

A retry comes later and costs a try. A reprompt or the next target comes now and costs none, as does a wait.
"""

from datetime import datetime, timedelta
from typing import assert_never

from schemas.admission import Refusal, RefusalReason
from schemas.decision import (
    AskAgain,
    Complete,
    DeadLetter,
    DeadReason,
    Decision,
    Expire,
    Park,
    RetryAt,
    WaitInPlace,
)
from schemas.job import Job
from schemas.outcome import (
    CACHED,
    Declined,
    Failed,
    InternalFault,
    Invalid,
    NotAdmitted,
    NotAllowed,
    Outcome,
    Truncated,
    Valid,
    Voided,
)
from schemas.reply import Trouble, TroubleKind
from tasks.budgets.policy import RULE_WAITS, about_exhausted
from tasks.execution.progress import Progress
from tasks.execution.reprompt import with_complaint, with_more_room

MAX_EXTENSIONS = 1
"""Extensions of the output limit: a second truncation is a loop, and each costs in full."""

MAX_THROTTLES_IN_PLACE = 3
"""Throttles after which a job gives its slot back and waits in Postgres."""

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
STOPPED_ACCOUNT_SECONDS = 60.0
"""Wait for an operator to reopen a stopped account."""

MENDED_BY_OPERATORS = frozenset({RefusalReason.BUDGET.value, RefusalReason.PACE.value, RULE_WAITS})

NOT_READY_SECONDS = 1.0
"""Wait while the ledger is rebuilt."""


def decide(job: Job, outcome: Outcome, progress: Progress, *, now: datetime, jitter: float) -> Decision:
    """Map an outcome to a decision. `jitter`, uniform in [0, 1), spreads retries."""
    decision = _decide(job, outcome, progress, now=now, jitter=jitter)
    if isinstance(decision, Complete | DeadLetter):
        return decision
    if _starts_at(decision, now) >= job.expires_at and not _may_be_woken(decision):
        return Expire()
    if isinstance(outcome, NotAllowed) or not isinstance(decision, RetryAt | Park):
        return decision
    return _in_place(decision, progress)


def _decide(job: Job, outcome: Outcome, progress: Progress, *, now: datetime, jitter: float) -> Decision:
    match outcome:
        case Valid(reply=reply, output=output, recovery=recovery):
            note = "answered as the same request was before" if recovery == CACHED else None
            return Complete(reply=reply, output=output, note=note)
        case Invalid():
            return _about_invalid(job, outcome, progress)
        case Truncated():
            return _about_truncated(outcome, progress)
        case Declined(reason=reason):
            return DeadLetter(reason=DeadReason.REFUSED, message=reason)
        case Failed(trouble=trouble):
            return _about_trouble(job, trouble, progress, now=now, jitter=jitter)
        case NotAdmitted(until_at=until_at, since_at=since_at, reason=why):
            return Park(until_at=until_at, reason=why.value, waiting_since=since_at)
        case NotAllowed(refusal=refusal):
            return _about_refusal(refusal, progress, now=now, jitter=jitter)
        case InternalFault(message=message):
            return DeadLetter(reason=DeadReason.INTERNAL_ERROR, message=message)
        case Voided():
            return Park(until_at=now + timedelta(seconds=NOT_READY_SECONDS), reason="epoch_changed")
        case _:
            assert_never(outcome)


def _may_be_woken(decision: Decision) -> bool:
    """An operator may raise the budget early, so such a job waits until its deadline."""
    return isinstance(decision, Park) and decision.reason in MENDED_BY_OPERATORS


def _in_place(decision: RetryAt | Park, progress: Progress) -> Decision:
    """Move a wait into the lease if a synchronous caller's patience covers it.

    Only a store or an operator can end refusals.
    """
    until_at = decision.at if isinstance(decision, RetryAt) else decision.until_at
    if progress.patient_until is None or until_at > progress.patient_until:
        return decision
    if isinstance(decision, RetryAt):
        return WaitInPlace(until_at=until_at, reason=decision.reason, costs_try=True)
    return WaitInPlace(until_at=until_at, reason=decision.reason, costs_try=False, waiting_since=decision.waiting_since)


def _starts_at(decision: AskAgain | WaitInPlace | RetryAt | Park | Expire, now: datetime) -> datetime:
    match decision:
        case RetryAt(at=at):
            return at
        case Park(until_at=until_at) | WaitInPlace(until_at=until_at):
            return until_at
        case AskAgain() | Expire():
            return now
        case _:
            assert_never(decision)


def _about_invalid(job: Job, outcome: Invalid, progress: Progress) -> Decision:
    if progress.streamed:
        return DeadLetter(reason=DeadReason.CONTRACT_VIOLATION, message=outcome.complaint)
    if _out_of_money(job) or progress.reprompts >= job.max_reprompts:
        return DeadLetter(reason=DeadReason.INVALID_OUTPUT, message=outcome.complaint)
    return AskAgain(body=with_complaint(job.body, outcome.reply.text, outcome.complaint), reason="reprompt")


def _about_truncated(outcome: Truncated, progress: Progress) -> Decision:
    used = outcome.reply.usage.output_tokens if outcome.reply.usage else 0
    wider = with_more_room(progress.body, used)
    if progress.streamed or wider is None or progress.extensions >= MAX_EXTENSIONS:
        return DeadLetter(reason=DeadReason.TRUNCATED, message="The reply reached its output limit.")
    return AskAgain(body=wider, reason="more_room")


def _about_trouble(job: Job, trouble: Trouble, progress: Progress, *, now: datetime, jitter: float) -> Decision:
    match trouble.kind:
        case TroubleKind.THROTTLE | TroubleKind.RAMP:
            return _about_throttle(trouble, progress, now=now, jitter=jitter)
        case TroubleKind.MONEY | TroubleKind.AUTH:
            return _next_target(progress) or Park(
                until_at=now + timedelta(seconds=STOPPED_ACCOUNT_SECONDS * (1 + jitter)), reason=trouble.kind.value
            )
        case TroubleKind.TOO_LARGE:
            return _next_target(progress) or DeadLetter(reason=DeadReason.TOO_LARGE, message=trouble.message)
        case TroubleKind.MODEL_NOT_FOUND:
            return _next_target(progress) or DeadLetter(reason=DeadReason.MODEL_NOT_FOUND, message=trouble.message)
        case TroubleKind.MODEL_FORBIDDEN:
            return _next_target(progress) or DeadLetter(reason=DeadReason.BAD_REQUEST, message=trouble.message)
        case TroubleKind.UNREADABLE:
            further = None if progress.streamed else _next_target(progress)
            return further or DeadLetter(reason=DeadReason.INVALID_OUTPUT, message=trouble.message)
        case TroubleKind.BAD_REQUEST | TroubleKind.FORBIDDEN:
            return DeadLetter(reason=DeadReason.BAD_REQUEST, message=trouble.message)
        case TroubleKind.SERVER | TroubleKind.NOT_SENT | TroubleKind.AMBIGUOUS | TroubleKind.CUT | TroubleKind.UNKNOWN:
            return _retry(job, trouble, progress, now=now, jitter=jitter)
        case _:
            assert_never(trouble.kind)


def _about_throttle(trouble: Trouble, progress: Progress, *, now: datetime, jitter: float) -> Decision:
    if progress.throttles < MAX_THROTTLES_IN_PLACE:
        return AskAgain(body=progress.body, reason=trouble.kind.value)
    wait = max((trouble.retry_after_ms or 0) / 1000, FIRST_BACKOFF_SECONDS)
    return Park(until_at=now + timedelta(seconds=wait * (1 + jitter)), reason=trouble.kind.value)


def _about_refusal(refusal: Refusal, progress: Progress, *, now: datetime, jitter: float) -> Decision:
    match refusal.reason:
        case RefusalReason.TOO_LARGE:
            return _next_target(progress) or DeadLetter(
                reason=DeadReason.TOO_LARGE, message="The request is larger than the limit of its model can ever hold."
            )
        case RefusalReason.TENANT_TOO_LARGE:
            return DeadLetter(
                reason=DeadReason.TOO_LARGE, message="The request is larger than tokens_per_minute of its tenant."
            )
        case RefusalReason.UNKNOWN_MODEL:
            return DeadLetter(
                reason=DeadReason.MODEL_NOT_FOUND, message=f"The model {refusal.scope!r} is not configured any more."
            )
        case RefusalReason.UNKNOWN_PRICE:
            return _next_target(progress) or DeadLetter(
                reason=DeadReason.UNKNOWN_PRICE,
                message="A budget counts this job and the price of its model is not known; configure its price.",
            )
        case RefusalReason.BUDGET | RefusalReason.PACE:
            return about_exhausted(refusal, progress.body, now=now, jitter=jitter)
        case RefusalReason.TOO_MANY_BUDGETS:
            return DeadLetter(reason=DeadReason.BUDGET, message=refusal.scope or "Too many budgets count this job.")
        case RefusalReason.ACCOUNT_STOPPED:
            return _next_target(progress) or _parked(refusal, STOPPED_ACCOUNT_SECONDS, now=now, jitter=jitter)
        case RefusalReason.STALE_EPOCH | RefusalReason.STALE_WINDOW | RefusalReason.NOT_READY:
            return _parked(refusal, NOT_READY_SECONDS, now=now, jitter=jitter)
        case _:
            assert_never(refusal.reason)


def _parked(refusal: Refusal, seconds: float, *, now: datetime, jitter: float) -> Park:
    return Park(until_at=now + timedelta(seconds=seconds * (1 + jitter)), reason=refusal.reason.value)


def _retry(job: Job, trouble: Trouble, progress: Progress, *, now: datetime, jitter: float) -> Decision:
    if progress.streamed or job.tries + 1 >= job.max_tries or _out_of_money(job):
        reason = DeadReason.AMBIGUOUS if trouble.kind is TroubleKind.AMBIGUOUS else DeadReason.TRIES_EXHAUSTED
        return DeadLetter(reason=reason, message=trouble.message)
    ceiling = min(FIRST_BACKOFF_SECONDS * 2**job.tries, LONGEST_BACKOFF_SECONDS)
    wait = max((trouble.retry_after_ms or 0) / 1000, ceiling * jitter)
    return RetryAt(at=now + timedelta(seconds=wait), reason=trouble.kind.value)


def _next_target(progress: Progress) -> AskAgain | None:
    return AskAgain(body=progress.body, reason="fallback", next_target=True) if progress.has_next_target else None


def _out_of_money(job: Job) -> bool:
    return job.max_cost_nano_usd is not None and job.spent_nano_usd >= job.max_cost_nano_usd
