"""Builds the rows of `penstock limits`, `/limits` and the gauges: one per target and limit. Pure.

An unknown value is None, never zero.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from admission.limits import DimensionSnapshot, LimitsSnapshot
from schemas.admission import WaitReason
from schemas.errors import UnknownModel
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from storage.queue.waiting_counts import MOST_COUNTED, WaitingJobs

Waiting: TypeAlias = Mapping[Lane, WaitingJobs]


def waiting_by_target(
    flows: Mapping[tuple[Lane, str], WaitingJobs],
    chain: Callable[[str], Sequence[Target]],
    bucket_of: Callable[[Target], Target],
    stopped: Collection[Target] = (),
) -> dict[Target, Waiting]:
    """Count waiting jobs by the bucket of their first target that is not stopped.

    Jobs of an unconfigured model are left out.
    """
    waiting: dict[Target, dict[Lane, WaitingJobs]] = {}
    for (lane, model), jobs in flows.items():
        try:
            buckets = [bucket_of(target) for target in chain(model)]
        except UnknownModel:
            continue
        first = next((bucket for bucket in buckets if bucket not in stopped), buckets[0])
        lanes = waiting.setdefault(first, {})
        lanes[lane] = lanes.get(lane, WaitingJobs()) + jobs
    return dict(waiting)


def limit_rows(snapshot: LimitsSnapshot, waiting: Waiting | None, now: datetime) -> list[JsonObject]:
    """Build a row for each limit, and one for calls in flight, even without a limit."""
    of_target = _of_target(snapshot, waiting, now)
    dimensions = {
        WaitReason.REQUESTS: (snapshot.requests_per_minute, snapshot.used_requests_last_minute),
        WaitReason.TOKENS: (snapshot.tokens_per_minute, snapshot.used_tokens_last_minute),
        WaitReason.REQUESTS_PER_DAY: (snapshot.requests_per_day, _spent(snapshot.requests_per_day)),
        WaitReason.TOKENS_PER_DAY: (snapshot.tokens_per_day, _spent(snapshot.tokens_per_day)),
    }
    in_flight = {
        "configured": snapshot.max_in_flight,
        "learned": None,
        "effective": snapshot.max_in_flight,
        "used": snapshot.in_flight,
        "resets_at": None,
    }
    return [
        *(
            _row(snapshot, reason, _figures(dimension, used, now), of_target)
            for reason, (dimension, used) in dimensions.items()
            if dimension.effective is not None
        ),
        _row(snapshot, WaitReason.IN_FLIGHT, in_flight, of_target),
    ]


def _row(snapshot: LimitsSnapshot, limit: WaitReason, figures: JsonObject, of_target: JsonObject) -> JsonObject:
    named = {"id": f"{snapshot.target}/{limit.value}", "target": str(snapshot.target), "limit": limit.value}
    return named | figures | of_target


def _figures(dimension: DimensionSnapshot, used: int | None, now: datetime) -> JsonObject:
    return {
        "configured": _rounded(dimension.configured),
        "learned": _rounded(dimension.learned),
        "effective": _rounded(dimension.effective),
        "used": used,
        "resets_at": _ahead(now, dimension.resets_in_ms),
    }


def _of_target(snapshot: LimitsSnapshot, waiting: Waiting | None, now: datetime) -> JsonObject:
    """Moments are by this process's clock."""
    return {
        "in_flight": snapshot.in_flight,
        "max_in_flight": snapshot.max_in_flight,
        "waiting": None if waiting is None else {lane.value: _counted(jobs) for lane, jobs in _by_urgency(waiting)},
        "ticket_ms": {lane.value: ahead for lane, ahead in snapshot.ticket_ms.items() if ahead},
        "frozen_until": _ahead(now, snapshot.frozen_ms),
        "frozen_seconds": snapshot.frozen_ms / 1_000,
        "shut_by": snapshot.shut_by and snapshot.shut_by.value,
        "stopped": snapshot.stopped,
        "rate_factor": round(snapshot.rate_factor * snapshot.ramp_factor, 3),
    }


def _by_urgency(waiting: Waiting) -> list[tuple[Lane, WaitingJobs]]:
    return sorted(((lane, jobs) for lane, jobs in waiting.items() if jobs.jobs), key=lambda flow: flow[0].rank)


def _counted(jobs: WaitingJobs) -> JsonObject:
    """With `capped`, counting ended at `jobs` and there may be more."""
    return {
        "jobs": min(jobs.jobs, MOST_COUNTED),
        "capped": jobs.jobs >= MOST_COUNTED,
        "queued": min(jobs.queued, MOST_COUNTED),
        "in_place": jobs.in_place,
        "parked": min(jobs.parked, MOST_COUNTED),
    }


def _ahead(now: datetime, milliseconds: int | None) -> datetime | None:
    return now + timedelta(milliseconds=milliseconds) if milliseconds else None


def _spent(dimension: DimensionSnapshot) -> int | None:
    if dimension.level is None or dimension.effective is None:
        return None
    return max(0, round((1 - dimension.level) * dimension.effective))


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
