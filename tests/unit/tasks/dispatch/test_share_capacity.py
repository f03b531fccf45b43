"""Dispatch publishes no more of a tenant than its share will soon let start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from admission.limits import ShareSnapshot
from schemas.ids import TenantId
from schemas.lanes import Flow, Lane
from schemas.tenants import RunAhead, ShareCapacity, TenantShare
from tasks.dispatch.share_capacity import ShareCapacities, capacity_left

TENANT, OTHER = TenantId("a"), TenantId("b")
LINE_SECONDS = 1.5
NO_TICKETS = dict.fromkeys(Lane, 0)
NEVER_ENDS = 1e9
"""Seconds between the ends of two calls."""


def snapshot(in_flight: int = 0, **facts: object) -> ShareSnapshot:
    return ShareSnapshot(**{"in_flight": in_flight, "ticket_ms": NO_TICKETS} | facts)  # type: ignore[arg-type]


def capacity(used: ShareSnapshot, *, published: int = 0, lane: Lane = Lane.NORMAL, **limits: int) -> ShareCapacity:
    ahead = RunAhead(tenant_id=TENANT, jobs=published, tokens=published * 1_000)
    return capacity_left(TenantShare(tenant_id=TENANT, **limits), used, lane, LINE_SECONDS, ahead)  # type: ignore[arg-type]


def test_calls_of_a_share_leave_capacity_for_its_free_slots() -> None:
    used = snapshot(in_flight=40, seconds_per_call=NEVER_ENDS)

    assert capacity(used, calls_in_flight=100) == ShareCapacity(jobs=55)  # five slots are for critical
    assert capacity(used, calls_in_flight=100, lane=Lane.CRITICAL) == ShareCapacity(jobs=60)
    assert capacity(used, calls_in_flight=100, published=50) == ShareCapacity(jobs=5)
    assert capacity(used, calls_in_flight=30) == ShareCapacity(jobs=0)


def test_a_full_share_has_capacity_for_as_many_as_end_soon() -> None:
    assert capacity(snapshot(in_flight=100, seconds_per_call=0.1), calls_in_flight=100) == ShareCapacity(jobs=15)
    assert capacity(snapshot(in_flight=100, seconds_per_call=10), calls_in_flight=100) == ShareCapacity(jobs=0)


def test_those_who_wait_already_take_the_capacity_of_newcomers() -> None:
    waiting = NO_TICKETS | {Lane.NORMAL: 1_000}
    used = snapshot(in_flight=100, seconds_per_call=0.1, ticket_ms=waiting)

    assert capacity(used, calls_in_flight=100) == ShareCapacity(jobs=5)
    assert capacity(used, calls_in_flight=100, lane=Lane.HIGH) == ShareCapacity(jobs=15)
    assert capacity(
        snapshot(full_in_seconds=(5.0, 0.0), ticket_ms=waiting | {Lane.NORMAL: 9_000}), requests_per_minute=60
    ) == (ShareCapacity(jobs=0))


def test_tickets_of_those_who_have_left_hold_up_nobody() -> None:
    used = snapshot(in_flight=10, seconds_per_call=NEVER_ENDS, ticket_ms=NO_TICKETS | {Lane.NORMAL: 60_000})

    assert capacity(used, calls_in_flight=100) == ShareCapacity(jobs=85)


@pytest.mark.parametrize(
    ("full_in_seconds", "jobs"), [(0.0, 75), (6.0, 15), (7.0, 5), (60.0, 0)], ids=["full", "empty", "debt", "deep debt"]
)
def test_requests_of_a_share_leave_capacity_for_what_refills_soon(full_in_seconds: float, jobs: int) -> None:
    assert capacity(snapshot(full_in_seconds=(full_in_seconds, 0.0)), requests_per_minute=600) == ShareCapacity(
        jobs=jobs
    )


def test_tokens_of_a_share_are_counted_by_work() -> None:
    used = snapshot(full_in_seconds=(0.0, 4.5))

    assert capacity(used, tokens_per_minute=60_000) == ShareCapacity(tokens=3_000)
    assert capacity(used, tokens_per_minute=60_000, published=2) == ShareCapacity(tokens=1_000)


def test_the_smallest_rate_lets_one_call_through_when_it_is_full() -> None:
    assert capacity(snapshot(), requests_per_minute=1) == ShareCapacity(jobs=1)
    assert capacity(snapshot(), requests_per_minute=1, published=1) == ShareCapacity(jobs=0)
    assert capacity(snapshot(full_in_seconds=(30.0, 0.0)), requests_per_minute=1) == ShareCapacity(jobs=0)


@dataclass
class Stack:
    """A backlog, a gate and shares."""

    waiting: Sequence[RunAhead] = ()
    limited: Mapping[TenantId, TenantShare] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def limits_calls(self) -> bool:
        return bool(self.limited)

    def share(self, tenant_id: TenantId) -> TenantShare:
        return self.limited.get(tenant_id, TenantShare(tenant_id=tenant_id))

    async def tenants(self, _lane: Lane, _model: str) -> Sequence[RunAhead]:
        self.asked.append("backlog")
        return self.waiting

    async def share_snapshots(self, tenants: Sequence[TenantId]) -> Sequence[ShareSnapshot]:
        self.asked.append(f"gate for {len(tenants)}")
        return [snapshot(in_flight=number, seconds_per_call=NEVER_ENDS) for number, _ in enumerate(tenants)]


async def capacities(stack: Stack) -> Mapping[TenantId, ShareCapacity]:
    flow = Flow(lane=Lane.NORMAL, model="m", run_ahead=0)
    return await ShareCapacities(stack, stack, stack, hold_seconds=2.0).capacities(flow)


async def test_shares_without_limits_of_calls_cost_nothing() -> None:
    stack = Stack([RunAhead(tenant_id=TENANT, jobs=0, tokens=0)])

    assert await capacities(stack) == {}
    assert stack.asked == []


async def test_only_tenants_with_limits_have_a_capacity() -> None:
    limited = {TENANT: TenantShare(tenant_id=TENANT, calls_in_flight=10)}
    stack = Stack([RunAhead(tenant_id=name, jobs=2, tokens=9) for name in (OTHER, TENANT)], limited)

    assert await capacities(stack) == {TENANT: ShareCapacity(jobs=8)}
    assert stack.asked == ["backlog", "gate for 1"]
