"""How much of a flow is worth publishing now: nothing while its target would make it wait longer than a slot waits.

So the backlog of an exhausted model stays in Postgres and takes no slot from another one. Reads the bucket, never
writes it; without Redis there is no answer, and dispatch waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from admission.limits import DimensionSnapshot, LimitsSnapshot
from schemas.errors import UnknownModel
from schemas.job import Target
from schemas.lanes import Lane

DAY_MS = 86_400_000
WINDOW_SECONDS = 4.0
"""Run-ahead of a target whose rate is known: what waits in slots (two seconds) and as much again on its way there."""

SMALLEST_WINDOW = 8
"""A slow target still gets enough published that its slots never wait for dispatch, which looks every 0.2 s."""

AS_GOOD_AS_FULL = 0.95
"""A bucket this full has let everybody through: tickets that lie ahead belong to jobs that have left."""

PROBE_SECONDS = 5.0
"""How often a shut flow sends one job to ask the gate itself, should the estimate here be wrong."""

FRESH_SECONDS = 0.1
"""How long a reading of a bucket serves all flows that lead to it."""


class Flow(Protocol):
    """Jobs of one lane for one model."""

    @property
    def lane(self) -> Lane:
        """Their priority class."""

    @property
    def model(self) -> str:
        """A model or an alias."""

    @property
    def run_ahead(self) -> int:
        """How many are published and not yet held."""


class Buckets(Protocol):
    """Where limits are enforced."""

    async def snapshot(self, target: Target) -> LimitsSnapshot | None:
        """A bucket now; None for one that was never asked for. Raises RedisUnavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """How a target stands for one lane. `wait_ms` is a newcomer's wait, `per_second` what it lets through at most."""

    wait_ms: int = 0
    per_second: float | None = None
    stopped: bool = False


class Openings:
    """The windows of all flows. `bucket_of` says whose limits a target shares; `clock` is monotonic seconds."""

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
        self._clock = clock
        self._read: dict[Target, tuple[float, LimitsSnapshot | None]] = {}
        self._probed_at: dict[tuple[Lane, str], float] = {}

    async def window(self, flow: Flow) -> int:
        """How many jobs of this flow may be published and not yet held. Raises RedisUnavailable."""
        opening = await self._opening(flow)
        if opening.stopped:
            return 0
        if opening.wait_ms > self._hold_ms:
            return self._probe(flow)
        if opening.per_second is None:
            return self._run_ahead
        return min(self._run_ahead, max(SMALLEST_WINDOW, round(opening.per_second * WINDOW_SECONDS)))

    async def _opening(self, flow: Flow) -> Opening:
        try:
            [target, *_] = self._chain(flow.model)
        except UnknownModel:
            return Opening()  # its jobs end as dead letters that say so
        snapshot = await self._snapshot(self._bucket_of(target))
        return Opening() if snapshot is None else opening_of(snapshot, flow.lane)

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


def opening_of(snapshot: LimitsSnapshot, lane: Lane) -> Opening:
    """What a bucket's picture says to a newcomer of a lane. Pure."""
    behind_tickets = 0 if _has_surplus(snapshot) else snapshot.ticket_ms[lane]
    days = (snapshot.requests_per_day, snapshot.tokens_per_day)
    return Opening(
        wait_ms=max(snapshot.frozen_ms, behind_tickets, *map(_exhausted_ms, days)),
        per_second=_per_second(snapshot.requests_per_minute, 60),
        stopped=snapshot.stopped is not None,
    )


def _has_surplus(snapshot: LimitsSnapshot) -> bool:
    minutes = (snapshot.requests_per_minute, snapshot.tokens_per_minute)
    slots_free = snapshot.max_in_flight is None or snapshot.in_flight < snapshot.max_in_flight
    return slots_free and all(one.level is None or one.level >= AS_GOOD_AS_FULL for one in minutes)


def _exhausted_ms(day: DimensionSnapshot) -> int:
    """How long until a day's limit holds one permit again."""
    if day.level is None or day.effective is None:
        return 0
    return max(0, round((1 / day.effective - day.level) * DAY_MS))


def _per_second(minute: DimensionSnapshot, seconds: int) -> float | None:
    return None if minute.effective is None else minute.effective / seconds
