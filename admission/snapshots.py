"""Unpacks the state of buckets and shares into snapshots, for operators and for dispatch."""

from asyncio import gather
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from admission import tenants as shares
from admission.keys import Keys
from admission.limits import DimensionSnapshot, LimitsSnapshot, ShareSnapshot, ShutBy
from admission.state import ORIGIN_SECONDS, unpack
from admission.wire import Wire
from schemas.ids import TenantId
from schemas.job import Target
from schemas.lanes import Lane

Fields: TypeAlias = dict[str, tuple[float, ...]]

SECOND_US = 1_000_000.0
SHORTEST_PACE_US = 1.0
MINUTE_US = 60_000_000.0
DAY_US = 86_400_000_000.0
FULL_RECOVERY_US = 1_000_000_000.0
"""A cut rate recovers by 1 % per 10 s."""
RAMP_STEP_US, RAMP_GROWTH = 900_000_000.0, 1.5
"""After a slow_down the rate grows by half every 15 minutes."""
FULLY_RAMPED_STEPS = 10
"""From a sixteenth the rate is complete after seven steps."""


async def read_snapshot(
    wire: Wire, keys: Keys, target: Target, clock_us: Callable[[], int] | None
) -> LimitsSnapshot | None:
    """Read in one pipeline, not atomically, which suffices for display."""
    packed, frozen_by, in_flight, stopped, time = await gather(
        wire.command("GET", keys.bucket(target)),
        wire.command("GET", keys.frozen_by(target)),
        wire.command("ZCARD", keys.in_flight(target)),
        wire.command("GET", keys.account(target.account)),
        wire.command("TIME"),
    )
    if packed is None:
        return None
    now = clock_us() if clock_us else _microseconds(time)
    state, reason = unpack(packed), stopped and stopped.decode()
    shut_by = ShutBy.ACCOUNT_STOPPED if reason is not None else _frozen_by(state, frozen_by, now)
    return _snapshot(target, state, now, in_flight=in_flight, stopped=reason, shut_by=shut_by)


async def read_share_snapshots(
    wire: Wire, keys: Keys, tenants: Sequence[TenantId], clock_us: Callable[[], int] | None
) -> list[ShareSnapshot]:
    """Read in two pipelines, not atomically, in the order of `tenants`."""
    now = clock_us() if clock_us else _microseconds(await wire.command("TIME"))
    states = await gather(*(wire.command("GET", keys.tenant_rates(tenant_id)) for tenant_id in tenants))
    running = await gather(
        *(wire.command("ZCOUNT", keys.tenant_in_flight(tenant_id), f"({now}", "+inf") for tenant_id in tenants)
    )
    return [_share_snapshot(packed, in_flight, now) for packed, in_flight in zip(states, running, strict=True)]


def _share_snapshot(packed: bytes | None, in_flight: int, now: float) -> ShareSnapshot:
    """A state that Redis has forgotten owes nothing."""
    if packed is None:
        return ShareSnapshot(in_flight=in_flight, ticket_ms=dict.fromkeys(Lane, 0))
    state = shares.unpack(packed)
    (pace,), (settled_at,), (requests, tokens) = state["pace"], state["settled_at"], state["tat"]
    return ShareSnapshot(
        in_flight=in_flight,
        seconds_per_call=max(pace, now - settled_at, SHORTEST_PACE_US) / SECOND_US,
        full_in_seconds=(max(0.0, requests - now) / SECOND_US, max(0.0, tokens - now) / SECOND_US),
        ticket_ms={lane: _ahead_ms(state["ticket"][lane.rank], now) for lane in Lane},
    )


def _snapshot(
    target: Target, state: Fields, now: float, *, in_flight: int, stopped: str | None, shut_by: ShutBy | None
) -> LimitsSnapshot:
    (maximum,) = state["max_in_flight"]
    (fixed,), (learned) = state["refund_fixed"], state["refund_share"][0]
    return LimitsSnapshot(
        target=target,
        version=int(state["version"][0]),
        requests_per_minute=_dimension(state, 0, now),
        tokens_per_minute=_dimension(state, 1, now),
        requests_per_day=_dimension(state, 2, now),
        tokens_per_day=_dimension(state, 3, now),
        used_requests_last_minute=_used(state, "requests", now),
        used_tokens_last_minute=_used(state, "tokens", now),
        in_flight=in_flight,
        max_in_flight=int(maximum) or None,
        ticket_ms={lane: _ahead_ms(state["ticket"][lane.rank], now) for lane in Lane},
        frozen_ms=_ahead_ms(state["frozen_until"][0], now),
        shut_by=shut_by,
        stopped=stopped,
        rate_factor=_rate_factor(state, now),
        ramp_factor=_ramp_factor(state, now),
        refund_share=learned if fixed < 0 else fixed,
    )


def _dimension(state: Fields, index: int, now: float) -> DimensionSnapshot:
    per_minute = index <= 1
    period = MINUTE_US if per_minute else DAY_US
    configured, learned = state["configured"][index], state["learned"][index]
    slowest = max(configured, learned)
    paced = slowest / _factor(state, index, now) if per_minute else slowest
    burst = state["burst"][0] if per_minute else DAY_US
    ends = 0.0 if per_minute else state["day_ends"][0]
    spent = max(0.0, state["tat"][index] - (ends - DAY_US if ends else now)) if now < ends or not ends else 0.0
    return DimensionSnapshot(
        configured=period / configured if configured else None,
        learned=period / learned if learned else None,
        effective=period / paced if paced else None,
        level=1 - spent / burst if slowest else None,
        resets_in_ms=_ahead_ms(ends, now) if ends else None,
    )


def _used(state: Fields, what: str, now: float) -> int:
    passed = (now - state["minute_at"][0]) / MINUTE_US
    this, before = state[f"minute_{what}"][0], state[f"before_{what}"][0]
    if passed >= 1:
        this, before, passed = 0.0, this, passed - 1
    return round(this + before * max(0.0, 1 - passed))


def _factor(state: Fields, index: int, now: float) -> float:
    """A learned rate is cut only after too fast a rise."""
    cut = 1.0 if state["learned"][index] else _rate_factor(state, now)
    return cut * _ramp_factor(state, now)


def _frozen_by(state: Fields, reason: bytes | None, now: float) -> ShutBy | None:
    """Unknown names count as a 429, because another version may run."""
    if state["frozen_until"][0] <= now:
        return None
    return ShutBy.SLOW_DOWN if reason == b"slow_down" else ShutBy.RETRY_AFTER


def _rate_factor(state: Fields, now: float) -> float:
    return min(1.0, state["rate_factor"][0] + (now - state["factor_at"][0]) / FULL_RECOVERY_US)


def _ramp_factor(state: Fields, now: float) -> float:
    factor, steps = state["ramp_factor"][0], (now - state["ramp_at"][0]) / RAMP_STEP_US
    return 1.0 if factor >= 1 or steps > FULLY_RAMPED_STEPS else min(1.0, factor * RAMP_GROWTH**steps)


def _microseconds(time: Any) -> int:  # noqa: ANN401 - the reply to TIME
    return (int(time[0]) - ORIGIN_SECONDS) * 1_000_000 + int(time[1])


def _ahead_ms(moment: float, now: float) -> int:
    return max(0, round((moment - now) / 1_000))
