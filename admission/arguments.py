"""Converts asks and limits to script arguments, and replies to grants and refusals. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson

from admission.learning import Reading
from admission.limits import TargetLimits
from admission.state import ORIGIN_SECONDS
from admission.wire import Word
from schemas.admission import Ask, Grant, Pace, Refusal, RefusalReason
from schemas.job import Target

ORIGIN = datetime.fromtimestamp(ORIGIN_SECONDS, UTC)


def moment_us(moment: datetime) -> int:
    """Convert to microseconds since the scripts' origin."""
    return round((moment - ORIGIN) / timedelta(microseconds=1))


def share_argument(ask: Ask) -> str:
    """Encode the limits of a tenant's share; empty without one."""
    if ask.share is None:
        return ""
    limits = (ask.share.requests_per_minute, ask.share.tokens_per_minute, ask.share.calls_in_flight)
    return f"{' '.join(str(limit or 0) for limit in limits)} {int(ask.has_share_ticket)}"


def pace_argument(pace: Pace | None) -> str:
    """Encode a budget's window and pace; empty without pacing."""
    return "" if pace is None else f"{moment_us(pace.starts_at)} {moment_us(pace.ends_at)} {pace.ahead!r}"


def reading_arguments(reading: Reading) -> tuple[Word, Word, Word]:
    """Encode a reading of headers."""
    remaining = "" if reading.remaining is None else reading.remaining
    return reading.dimension, remaining, "" if reading.limit is None else reading.limit


def limit_arguments(limits: TargetLimits, version: int) -> list[Word]:
    """Encode a target's limits."""
    return [
        target_name(limits.target),
        version,
        limits.burst_ms * 1_000,
        limits.max_in_flight or 0,
        repr(-1.0 if limits.refund_share is None else limits.refund_share),
        limits.requests_per_minute or 0,
        limits.tokens_per_minute or 0,
        limits.requests_per_day or 0,
        limits.tokens_per_day or 0,
        *map(repr, limits.floors),
        *map(repr, limits.shares),
    ]


def target_name(target: Target) -> bytes:
    """Encode a target as a member of the index."""
    return orjson.dumps([target.account, target.model])


def target_named(member: bytes) -> Target:
    """Decode a member of the index."""
    account, model = orjson.loads(member)
    return Target(account=account, model=model)


def grant_of(ask: Ask, *, wait_us: int, stamp: str) -> Grant:
    """Make the grant of an ask."""
    return Grant(
        stamp=stamp,
        wait_ms=milliseconds(wait_us),
        tokens=ask.tokens,
        cost_nano_usd=ask.cost_nano_usd,
        target=ask.target,
        epoch=ask.epoch,
        counters=ask.counters,
    )


def refusal_of(ask: Ask, reason: RefusalReason, detail: str) -> Refusal:
    """Make the refusal of an ask; `detail` depends on the reason."""
    match reason:
        case RefusalReason.BUDGET:
            counter = ask.counters[int(detail)]
            return Refusal(reason=reason, scope=counter.scope, counter=counter, asked_nano_usd=ask.cost_nano_usd)
        case RefusalReason.PACE:
            number, opens_in_us = map(int, detail.split())
            spent = refusal_of(ask, RefusalReason.BUDGET, str(number))
            return replace(spent, reason=reason, opens_in_ms=milliseconds(opens_in_us))
        case _:
            return Refusal(reason=reason, scope=detail or None)


def milliseconds(microseconds: int) -> int:
    """Convert to milliseconds, rounding up."""
    return -(-microseconds // 1_000)
