"""Computes what an attempt cost and how its reservation is settled. Pure.

Invariant: money is released only when nothing was billed for certain; an unknown outcome becomes an unresolved charge.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from schemas.admission import SettleKind, Settlement
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.jsons import JsonObject
from schemas.money import ZERO, NanoUsd, Price, Usage
from schemas.outcome import Declined, Invalid, Judged, Truncated, Valid
from schemas.reply import Reply, Trouble, TroubleKind

INTERNAL_ERROR = "internal_error"
"""Outcome of an attempt that hit a bug."""

MAX_COST_NANO_USD = 2**63 - 1
"""Largest value of the cost column."""

_STATE = {
    SettleKind.POST: AttemptState.POSTED,
    SettleKind.RELEASE: AttemptState.RELEASED,
    SettleKind.SUSPEND: AttemptState.SUSPENSE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptClose:
    """Holds an attempt's end: its row for Postgres and its settlement for Redis."""

    closed: ClosedAttempt
    settlement: Settlement


def close_with_reply(
    opened: OpenedAttempt, reply: Reply, judged: Judged, now: datetime, *, price: Price
) -> AttemptClose:
    """Post the reply's cost; without usage the reservation, the only safe figure."""
    usage = reply.usage
    cost = price.cost(usage) if usage else opened.grant.cost_nano_usd
    tokens = usage.total_tokens if usage else opened.grant.tokens
    closed = ClosedAttempt(
        id=opened.id,
        state=AttemptState.POSTED,
        outcome=_outcome_of(judged),
        cost_nano_usd=cost,
        closed_at=now,
        usage=usage,
        reply=None if _is_the_result(reply, judged) else reply.body,
        recovery=judged.recovery if isinstance(judged, Valid) else None,
        complaint=judged.complaint if isinstance(judged, Invalid) else None,
        provider_request_id=reply.request_id,
        latency_ms=reply.latency_ms,
        tier=reply.service_tier,
        price=price,
    )
    settlement = Settlement(
        grant=opened.grant,
        kind=SettleKind.POST,
        actual_tokens=tokens,
        actual_nano_usd=cost,
        headers=reply.limits,
    )
    return AttemptClose(closed=closed, settlement=settlement)


def _is_the_result(reply: Reply, judged: Judged) -> bool:
    """Tell whether the result is this reply unchanged; it is then stored once."""
    return isinstance(judged, Valid) and judged.reply is reply


def close_with_trouble(opened: OpenedAttempt, trouble: Trouble, now: datetime) -> AttemptClose:
    """Release a refused call, post a produced reply, suspend an unknown outcome."""
    kind = _settle_kind(trouble)
    cost, tokens = _worth(opened, trouble.usage, kind)
    closed = ClosedAttempt(
        id=opened.id,
        state=_STATE[kind],
        outcome=trouble.kind.value,
        cost_nano_usd=cost,
        closed_at=now,
        usage=trouble.usage,
        error=_error(trouble),
        provider_request_id=trouble.request_id,
        latency_ms=trouble.latency_ms,
    )
    settlement = Settlement(
        grant=opened.grant,
        kind=kind,
        actual_tokens=tokens,
        actual_nano_usd=cost,
        refund_permits=trouble.kind is TroubleKind.NOT_SENT,
        headers=trouble.limits,
    )
    return AttemptClose(closed=closed, settlement=settlement)


def close_with_fault(opened: OpenedAttempt, now: datetime, *, answered: bool) -> AttemptClose:
    """Close a call that hit a bug at its reservation, never below its cost.

    Without an answer the charge stays unresolved.
    """
    kind = SettleKind.POST if answered else SettleKind.SUSPEND
    grant = opened.grant
    closed = ClosedAttempt(
        id=opened.id, state=_STATE[kind], outcome=INTERNAL_ERROR, cost_nano_usd=grant.cost_nano_usd, closed_at=now
    )
    settlement = Settlement(grant=grant, kind=kind, actual_tokens=grant.tokens, actual_nano_usd=grant.cost_nano_usd)
    return AttemptClose(closed=closed, settlement=settlement)


def without_content(closed: ClosedAttempt) -> ClosedAttempt:
    """Drop the content and keep the cost, for when the full row cannot be written."""
    return ClosedAttempt(
        id=closed.id,
        state=closed.state,
        outcome=INTERNAL_ERROR,
        cost_nano_usd=NanoUsd(max(0, min(closed.cost_nano_usd, MAX_COST_NANO_USD))),
        closed_at=closed.closed_at,
    )


def _settle_kind(trouble: Trouble) -> SettleKind:
    match trouble.kind:
        case TroubleKind.CUT | TroubleKind.UNREADABLE:
            return SettleKind.POST if trouble.usage else SettleKind.SUSPEND
        case TroubleKind.AMBIGUOUS | TroubleKind.UNKNOWN:
            return SettleKind.SUSPEND
        case (
            TroubleKind.THROTTLE
            | TroubleKind.RAMP
            | TroubleKind.MONEY
            | TroubleKind.TOO_LARGE
            | TroubleKind.SERVER
            | TroubleKind.NOT_SENT
            | TroubleKind.BAD_REQUEST
            | TroubleKind.AUTH
            | TroubleKind.FORBIDDEN
            | TroubleKind.MODEL_FORBIDDEN
            | TroubleKind.MODEL_NOT_FOUND
        ):
            return SettleKind.RELEASE
        case _:
            assert_never(trouble.kind)


def _worth(opened: OpenedAttempt, usage: Usage | None, kind: SettleKind) -> tuple[NanoUsd, int]:
    match kind:
        case SettleKind.RELEASE:
            return ZERO, 0
        case SettleKind.SUSPEND:
            return opened.grant.cost_nano_usd, opened.grant.tokens
        case SettleKind.POST:
            known = usage or Usage(input_tokens=0, output_tokens=0)
            return opened.price.cost(known), known.total_tokens
        case _:
            assert_never(kind)


def _error(trouble: Trouble) -> JsonObject:
    return {
        "kind": trouble.kind.value,
        "message": trouble.message,
        "status": trouble.status,
        "code": trouble.code,
        "partial_text": trouble.partial_text,
    }


def _outcome_of(judged: Judged) -> str:
    match judged:
        case Valid():
            return "valid"
        case Invalid():
            return "invalid"
        case Truncated():
            return "truncated"
        case Declined():
            return "declined"
        case _:
            assert_never(judged)
