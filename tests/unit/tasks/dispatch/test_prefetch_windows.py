"""A flow is as open as its target: nothing is published that would wait longer than a slot waits."""

from dataclasses import dataclass, field, replace

import pytest

from admission.limits import DimensionSnapshot, LimitsSnapshot
from schemas.errors import RedisUnavailable, UnknownModel
from schemas.job import Target
from schemas.lanes import Flow, Lane
from tasks.dispatch.prefetch_windows import PROBE_SECONDS, SHORTEST_LINE_SECONDS, PrefetchWindows

TARGET = Target(account="a", model="m")
FAMILY, MEMBERS = Target(account="a", model="f"), (Target(account="a", model="one"), Target(account="a", model="two"))
NONE = DimensionSnapshot(configured=None, learned=None, effective=None, level=None)
FULL = DimensionSnapshot(configured=6_000, learned=None, effective=6_000, level=1.0)
EMPTY = replace(FULL, level=0.0)
TICKETS = dict.fromkeys(Lane, 0) | {Lane.LOW: 9_000}

OPEN = LimitsSnapshot(
    target=TARGET,
    version=1,
    requests_per_minute=FULL,
    tokens_per_minute=NONE,
    requests_per_day=NONE,
    tokens_per_day=NONE,
    used_requests_last_minute=0,
    used_tokens_last_minute=0,
    in_flight=0,
    max_in_flight=None,
    ticket_ms=dict.fromkeys(Lane, 0),
    frozen_ms=0,
    stopped=None,
    rate_factor=1.0,
    ramp_factor=1.0,
    refund_share=1.0,
)


@dataclass
class Buckets:
    snapshot_now: LimitsSnapshot | None
    away: bool = False
    asked: int = 0
    now: float = 0.0
    others: dict[Target, LimitsSnapshot] = field(default_factory=dict)
    chains: dict[str, tuple[Target, ...]] = field(
        default_factory=lambda: {"small": (TARGET,), **{member.model: (member,) for member in MEMBERS}}
    )

    async def snapshot(self, target: Target) -> LimitsSnapshot | None:
        self.asked += 1
        if target in MEMBERS:
            return None
        if self.away:
            raise RedisUnavailable
        return self.others.get(target, self.snapshot_now)

    def chain(self, model: str) -> tuple[Target, ...]:
        if model not in self.chains:
            raise UnknownModel
        return self.chains[model]

    def bucket_of(self, target: Target) -> Target:
        return FAMILY if target in MEMBERS else target

    def prefetch_windows(self, hold_seconds: float = 2.0) -> PrefetchWindows:
        return PrefetchWindows(
            self,
            self.chain,
            bucket_of=self.bucket_of,
            run_ahead=1_200,
            hold_seconds=hold_seconds,
            clock=lambda: self.now,
        )


def flow(lane: Lane = Lane.LOW, model: str = "small", run_ahead: int = 5) -> Flow:
    return Flow(lane=lane, model=model, run_ahead=run_ahead)


@pytest.mark.parametrize(
    ("snapshot", "window"),
    [
        (OPEN, 150),
        (None, 1_200),
        (replace(OPEN, requests_per_minute=NONE), 1_200),
        (replace(OPEN, requests_per_minute=replace(FULL, effective=6_000_000)), 1_200),
        (replace(OPEN, requests_per_minute=replace(FULL, effective=60)), 2),
        (replace(OPEN, requests_per_minute=replace(FULL, effective=6)), 1),
        (replace(OPEN, requests_per_minute=EMPTY), 150),
        (replace(OPEN, requests_per_minute=EMPTY, ticket_ms=dict.fromkeys(Lane, 500)), 100),
        (replace(OPEN, requests_per_minute=EMPTY, ticket_ms=dict.fromkeys(Lane, 1_800)), 1),
        (replace(OPEN, requests_per_minute=EMPTY, ticket_ms=TICKETS), 0),
        (replace(OPEN, ticket_ms=TICKETS), 150),
        (replace(OPEN, ticket_ms=TICKETS, in_flight=7, max_in_flight=7), 0),
        (replace(OPEN, frozen_ms=1_000), 50),
        (replace(OPEN, frozen_ms=60_000), 0),
        (replace(OPEN, stopped="insufficient_quota"), 0),
        (replace(OPEN, requests_per_day=replace(FULL, effective=100, level=0.5)), 150),
        (replace(OPEN, requests_per_day=replace(FULL, effective=100, level=0.0)), 0),
    ],
)
async def test_a_window_follows_what_the_target_lets_through(snapshot: LimitsSnapshot | None, window: int) -> None:
    assert await Buckets(snapshot).prefetch_windows().window(flow()) == window


@pytest.mark.parametrize(
    ("tokens", "requests", "window"),
    [
        (None, 60, 150),  # a hundred a second by requests
        (600_000, 60, 15),  # ten a second by tokens, at a thousand for each request
        (600_000, 0, 150),  # nobody knows yet what a request takes
    ],
)
async def test_where_tokens_bind_it_is_what_a_request_has_taken_lately(
    tokens: int | None, requests: int, window: int
) -> None:
    by_tokens = replace(FULL, effective=tokens)
    lately = replace(
        OPEN,
        tokens_per_minute=by_tokens,
        used_requests_last_minute=requests,
        used_tokens_last_minute=requests * 1_000,
    )

    assert await Buckets(lately).prefetch_windows().window(flow()) == window


@pytest.mark.parametrize(
    ("requests_per_minute", "in_flight", "window"),
    [
        (NONE, 0, 48),  # all slots are free but two, which are for critical alone
        (NONE, 38, 25),  # ten are, and ten a second have begun lately
        (NONE, 48, 15),
        (NONE, 50, 15),
        (FULL, 38, 150),  # the limit of a minute paces
        (FULL, 48, 15),  # the slots do
    ],
)
async def test_a_window_bound_by_calls_in_flight_is_what_is_free_and_just_begun(
    requests_per_minute: DimensionSnapshot, in_flight: int, window: int
) -> None:
    lately = 0 if in_flight == 0 else 600
    snapshot = replace(
        OPEN,
        requests_per_minute=requests_per_minute,
        max_in_flight=50,
        in_flight=in_flight,
        used_requests_last_minute=lately,
    )

    assert await Buckets(snapshot).prefetch_windows().window(flow()) == window


async def test_slots_without_a_wait_still_get_what_arrives_between_two_looks() -> None:
    prefetch_windows = Buckets(OPEN).prefetch_windows(hold_seconds=0.0)

    assert await prefetch_windows.window(flow()) == 100 * SHORTEST_LINE_SECONDS


async def test_tickets_of_one_lane_do_not_shut_another() -> None:
    buckets = Buckets(replace(OPEN, requests_per_minute=EMPTY, ticket_ms=TICKETS))

    assert await buckets.prefetch_windows().window(flow(Lane.HIGH)) == 150


async def test_an_unconfigured_model_is_published_so_that_its_jobs_say_so() -> None:
    assert await Buckets(OPEN).prefetch_windows().window(flow(model="gone")) == 1_200


async def test_a_shut_flow_sends_one_job_now_and_then_to_ask() -> None:
    buckets = Buckets(replace(OPEN, frozen_ms=60_000))
    prefetch_windows = buckets.prefetch_windows()

    first, second = await prefetch_windows.window(flow(run_ahead=0)), await prefetch_windows.window(flow(run_ahead=0))
    buckets.now = PROBE_SECONDS

    assert (first, second, await prefetch_windows.window(flow(run_ahead=0))) == (1, 0, 1)


@pytest.mark.parametrize(
    ("snapshot", "window"), [(OPEN, 150), (replace(OPEN, frozen_ms=60_000), 0), (replace(OPEN, stopped="billing"), 0)]
)
async def test_a_member_of_a_family_is_as_open_as_the_family(snapshot: LimitsSnapshot, window: int) -> None:
    buckets = Buckets(snapshot)
    prefetch_windows = buckets.prefetch_windows()

    assert {await prefetch_windows.window(flow(model=member.model)) for member in MEMBERS} == {window}
    assert buckets.asked == 1


async def test_jobs_pass_by_a_stopped_account_where_their_chain_goes_on() -> None:
    stopped, second = replace(OPEN, stopped="billing"), Target(account="b", model="m")
    slower = replace(OPEN, requests_per_minute=replace(FULL, effective=1_200))
    windows = [
        await Buckets(stopped, others={second: other}, chains={"small": (TARGET, second)})
        .prefetch_windows()
        .window(flow())
        for other in (slower, stopped)
    ]

    assert windows == [30, 0]


async def test_a_stopped_account_is_not_asked_at_all() -> None:
    assert await Buckets(replace(OPEN, stopped="billing")).prefetch_windows().window(flow(run_ahead=0)) == 0


async def test_one_reading_serves_all_flows_of_a_target() -> None:
    buckets = Buckets(OPEN)
    prefetch_windows = buckets.prefetch_windows()

    for lane in Lane:
        await prefetch_windows.window(flow(lane))

    assert buckets.asked == 1


async def test_without_redis_there_is_no_answer() -> None:
    with pytest.raises(RedisUnavailable):
        await Buckets(OPEN, away=True).prefetch_windows().window(flow())
