"""Computes how many jobs of a flow to publish now: none if the wait exceeds `hold_seconds`.

Without Redis, dispatch waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from admission.limits import DimensionSnapshot, LimitsSnapshot
from schemas.errors import UnknownModel
from schemas.job import Target
from schemas.lanes import Flow, Lane

DAY_MS = 86_400_000
LINE_SHARE = 0.75
"""Share of `hold_seconds` that a target's queue may take. A job that waits longer is parked, and returns too late for
its slot."""

SHORTEST_LINE_SECONDS = 0.5
"""Lower bound for a small `hold_seconds`: what a target admits between two rounds of dispatch."""

AS_GOOD_AS_FULL = 0.95
"""At this fill level a bucket has admitted everybody: remaining tickets belong to jobs that have left."""

PROBE_SECONDS = 5.0
"""How often a flow with too long a wait publishes one job, in case this estimate is wrong."""

FRESH_SECONDS = 0.1
"""How long a snapshot serves all flows of a bucket."""


def line_seconds(hold_seconds: float) -> float:
    """Return how far ahead of the gate jobs are published."""
    return max(SHORTEST_LINE_SECONDS, LINE_SHARE * hold_seconds)


class Buckets(Protocol):
    """Reads buckets."""

    async def snapshot(self, target: Target) -> LimitsSnapshot | None:
        """Read a bucket; None when never used. Raises RedisUnavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetCapacity:
    """Describes a target's capacity for one lane.

    `wait_ms` is a new job's wait, `per_second` the admission rate (None: unlimited), `at_once` the calls that may begin
    together when only concurrency is limited.
    """

    wait_ms: int = 0
    per_second: float | None = None
    at_once: int = 0
    stopped: bool = False

    def room(self, line_seconds: float) -> int | None:
        """Return how many jobs fit into `line_seconds`; None is unlimited."""
        if self.per_second is None:
            return None
        return max(1, self.at_once + round(self.per_second * max(0.0, line_seconds - self.wait_ms / 1_000)))


class PrefetchWindows:
    """Computes the windows of all flows.

    `bucket_of` maps a target to the target that stands for its shared limits; `clock` is monotonic.
    """

    def __init__(
        self,
        buckets: Buckets,
        chain: Callable[[str], Sequence[Target]],
        *,
        bucket_of: Callable[[Target], Target],
        run_ahead: int,
        hold_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._buckets = buckets
        self._chain = chain
        self._bucket_of = bucket_of
        self._run_ahead = run_ahead
        self._hold_ms = hold_seconds * 1_000
        self._line_seconds = line_seconds(hold_seconds)
        self._clock = clock
        self._read: dict[Target, tuple[float, LimitsSnapshot | None]] = {}
        self._probed_at: dict[tuple[Lane, str], float] = {}

    async def window(self, flow: Flow) -> int:
        """Return the most published, unclaimed jobs. Raises RedisUnavailable."""
        capacity = await self._capacity(flow)
        if capacity.stopped:
            return 0
        if capacity.wait_ms > self._hold_ms:
            return self._probe(flow)
        free = capacity.room(self._line_seconds)
        return self._run_ahead if free is None else min(self._run_ahead, free)

    async def _capacity(self, flow: Flow) -> TargetCapacity:
        """Return the capacity of the first target without a stopped account."""
        try:
            targets = self._chain(flow.model)
        except UnknownModel:
            return TargetCapacity()  # its jobs end as dead letters with that reason
        for target in targets:
            snapshot = await self._snapshot(self._bucket_of(target))
            if snapshot is None:
                return TargetCapacity()
            if snapshot.stopped is None:
                return capacity_of(snapshot, flow.lane)
        return TargetCapacity(stopped=True)

    async def _snapshot(self, bucket: Target) -> LimitsSnapshot | None:
        read_at, snapshot = self._read.get(bucket, (float("-inf"), None))
        if self._clock() - read_at >= FRESH_SECONDS:
            snapshot = await self._buckets.snapshot(bucket)
            self._read[bucket] = (self._clock(), snapshot)
        return snapshot

    def _probe(self, flow: Flow) -> int:
        key = (flow.lane, flow.model)
        if flow.run_ahead or self._clock() - self._probed_at.get(key, float("-inf")) < PROBE_SECONDS:
            return 0
        self._probed_at[key] = self._clock()
        return 1


def capacity_of(snapshot: LimitsSnapshot, lane: Lane) -> TargetCapacity:
    """Return a bucket's capacity for a new job of a lane. Pure."""
    behind_tickets = 0 if _has_surplus(snapshot, lane) else snapshot.ticket_ms[lane]
    days = (snapshot.requests_per_day, snapshot.tokens_per_day)
    per_second, at_once = _pace(snapshot, lane)
    return TargetCapacity(
        wait_ms=max(snapshot.frozen_ms, behind_tickets, *map(_exhausted_ms, days)),
        per_second=per_second,
        at_once=at_once,
    )


def _has_surplus(snapshot: LimitsSnapshot, lane: Lane) -> bool:
    minutes = (snapshot.requests_per_minute, snapshot.tokens_per_minute)
    return snapshot.free_slots(lane) != 0 and all(
        minute.level is None or minute.level >= AS_GOOD_AS_FULL for minute in minutes
    )


def _exhausted_ms(day: DimensionSnapshot) -> int:
    if day.level is None or day.effective is None:
        return 0
    return max(0, round((1 / day.effective - day.level) * DAY_MS))


def _pace(snapshot: LimitsSnapshot, lane: Lane) -> tuple[float | None, int]:
    """Return the admission rate per second, and the calls that may begin at once without one.

    Token limits are converted by the last minute's tokens per request. Concurrency limits the rate to the last
    minute's.
    """
    requests, tokens = snapshot.requests_per_minute.effective, snapshot.tokens_per_minute.effective
    lately, taken = snapshot.used_requests_last_minute, snapshot.used_tokens_last_minute
    rates = [] if requests is None else [requests / 60]
    if tokens is not None and lately and taken:
        rates.append(tokens / 60 / (taken / lately))
    free = snapshot.free_slots(lane)
    if free is None or (free and rates):
        return min(rates, default=None), 0
    return min([*rates, lately / 60]), free
