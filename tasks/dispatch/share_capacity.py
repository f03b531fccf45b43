"""Computes how many jobs each tenant's share lets dispatch publish now.

Published jobs that their share refuses would be claimed and put back one by one, ahead of other tenants' jobs.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from admission.limits import ShareSnapshot, free_slots
from admission.tenants import BURST_US
from schemas.ids import TenantId
from schemas.lanes import Flow, Lane
from schemas.tenants import RunAhead, ShareCapacity, TenantShare
from tasks.dispatch.prefetch_windows import AS_GOOD_AS_FULL, line_seconds

BURST_SECONDS = BURST_US / 1_000_000


class Backlog(Protocol):
    """Reads the tenants of a flow."""

    async def tenants(self, lane: Lane, model: str) -> Sequence[RunAhead]:
        """List tenants with unpublished jobs, and what is published of each."""


class Gate(Protocol):
    """Reads what tenants use of their shares."""

    async def share_snapshots(self, tenants: Sequence[TenantId]) -> Sequence[ShareSnapshot]:
        """Raises RedisUnavailable."""


class Shares(Protocol):
    """Knows the shares of tenants."""

    @property
    def limits_calls(self) -> bool:
        """Whether any tenant's calls are limited."""

    def share(self, tenant_id: TenantId) -> TenantShare:
        """Return the share of this tenant."""


class ShareCapacities:
    """Computes the capacities of a flow's tenants."""

    def __init__(self, backlog: Backlog, gate: Gate, shares: Shares, *, hold_seconds: float) -> None:
        self._backlog = backlog
        self._gate = gate
        self._shares = shares
        self._line_seconds = line_seconds(hold_seconds)

    async def capacities(self, flow: Flow) -> Mapping[TenantId, ShareCapacity]:
        """Return the capacity of each tenant whose calls are limited. Raises RedisUnavailable."""
        if not self._shares.limits_calls:
            return {}
        waiting = await self._backlog.tenants(flow.lane, flow.model)
        limited = [(ahead, share) for ahead in waiting if (share := self._shares.share(ahead.tenant_id)).limits_calls]
        snapshots = await self._gate.share_snapshots([ahead.tenant_id for ahead, _ in limited])
        return {
            ahead.tenant_id: capacity_left(share, snapshot, flow.lane, self._line_seconds, ahead)
            for (ahead, share), snapshot in zip(limited, snapshots, strict=True)
        }


def capacity_left(
    share: TenantShare, snapshot: ShareSnapshot, lane: Lane, line_seconds: float, ahead: RunAhead
) -> ShareCapacity:
    """Return what may start within `line_seconds`, less what is published. Pure."""
    free = None if share.calls_in_flight is None else free_slots(share.calls_in_flight, snapshot.in_flight, lane)
    has_surplus = free != 0 and max(snapshot.full_in_seconds) <= (1 - AS_GOOD_AS_FULL) * BURST_SECONDS
    left_seconds = line_seconds - (0 if has_surplus else snapshot.ticket_ms[lane] / 1_000)
    if left_seconds <= 0:
        return ShareCapacity(jobs=0)
    requests, tokens = (
        None if limit is None else _refilled(limit, full_in_seconds, left_seconds)
        for limit, full_in_seconds in zip(
            (share.requests_per_minute, share.tokens_per_minute), snapshot.full_in_seconds, strict=True
        )
    )
    calls = None if free is None else free + int(left_seconds / snapshot.seconds_per_call)
    jobs = min((most for most in (requests, calls) if most is not None), default=None)
    return ShareCapacity(
        jobs=None if jobs is None else max(0, jobs - ahead.jobs),
        tokens=None if tokens is None else max(0, tokens - ahead.tokens),
    )


def _refilled(per_minute: int, full_in_seconds: float, line_seconds: float) -> int:
    """Return the permits within `line_seconds`. A rate that will be full by then lets one call go into debt."""
    left = per_minute / 60 * (BURST_SECONDS - full_in_seconds + line_seconds)
    return max(int(full_in_seconds <= line_seconds), int(left))
