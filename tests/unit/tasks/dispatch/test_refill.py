"""The run-ahead is bounded per flow, and a broker that is away loses nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from schemas.ids import JobId, TenantId
from schemas.job import Published
from schemas.lanes import Flow, Lane
from schemas.tenants import ShareCapacity
from tasks.dispatch.publisher import message, parse_message
from tasks.dispatch.refill import MOST_URGENT_AHEAD, dispatch
from tasks.maintenance.items import Isolation
from tests.support.outlet import Open, Shares, Wire


@dataclass
class Rows:
    waiting: dict[tuple[Lane, str], int]
    ahead: dict[tuple[Lane, str], int] = field(default_factory=dict)
    given_back: list[JobId] = field(default_factory=list)
    capacities: Mapping[TenantId, ShareCapacity] = field(default_factory=dict)

    async def flows(self) -> Sequence[Flow]:
        return [
            Flow(lane=lane, model=model, run_ahead=self.ahead.get((lane, model), 0))
            for (lane, model), depth in self.waiting.items()
            if depth
        ]

    async def take(
        self, lane: Lane, model: str, most: int, *, capacities: Mapping[TenantId, ShareCapacity]
    ) -> Sequence[Published]:
        self.capacities = capacities
        key = (lane, model)
        taken = min(most, self.waiting[key])
        self.waiting[key] -= taken
        self.ahead[key] = self.ahead.get(key, 0) + taken
        return [Published(job_id=JobId(f"{model}{n}"), generation=0) for n in range(taken)]

    async def give_back(self, jobs: Sequence[JobId]) -> int:
        self.given_back.extend(jobs)
        return len(jobs)


async def test_a_million_queued_jobs_publish_only_the_run_ahead() -> None:
    rows, wire = Rows({(Lane.LOW, "m"): 1_000_000}), Wire()

    await dispatch(rows, wire, Open(100), Shares(), slice_size=32, isolation=Isolation("dispatch"))
    await dispatch(rows, wire, Open(100), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert wire.sent == [(Lane.LOW, 100, 12)]


async def test_urgent_backlogs_are_published_in_small_windows() -> None:
    rows, wire = Rows({(Lane.CRITICAL, "m"): 1_000}), Wire()

    await dispatch(rows, wire, Open(1_200), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert rows.ahead[Lane.CRITICAL, "m"] == MOST_URGENT_AHEAD


async def test_an_exhausted_model_does_not_hold_up_another() -> None:
    rows, wire = Rows({(Lane.LOW, "full"): 10, (Lane.LOW, "free"): 10}, {(Lane.LOW, "full"): 100}), Wire()

    await dispatch(rows, wire, Open(100), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert wire.sent == [(Lane.LOW, 10, 1)]


async def test_the_backlog_of_a_shut_flow_stays_where_it_is() -> None:
    rows, wire = Rows({(Lane.LOW, "shut"): 10, (Lane.LOW, "free"): 10}), Wire()

    await dispatch(rows, wire, Open(100, shut={"shut": 0}), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert (wire.sent, rows.waiting[Lane.LOW, "shut"]) == ([(Lane.LOW, 10, 1)], 10)


async def test_a_shut_flow_may_send_one_job_to_ask() -> None:
    rows, wire = Rows({(Lane.LOW, "shut"): 10}), Wire()

    await dispatch(rows, wire, Open(100, shut={"shut": 1}), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert wire.sent == [(Lane.LOW, 1, 1)]


@pytest.mark.parametrize(("jobs", "slice_size"), [(7, 1), (16, 2), (64, 8), (1_000, 32)])
async def test_a_refill_travels_in_slices_that_leave_work_for_several_workers(jobs: int, slice_size: int) -> None:
    rows, wire = Rows({(Lane.NORMAL, "m"): jobs}), Wire()

    await dispatch(rows, wire, Open(1_200), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert wire.sent == [(Lane.NORMAL, jobs, slice_size)]


async def test_critical_jobs_travel_one_by_one() -> None:
    rows, wire = Rows({(Lane.CRITICAL, "m"): 90}), Wire()

    await dispatch(rows, wire, Open(1_200), Shares(), slice_size=32, isolation=Isolation("dispatch"))

    assert wire.sent == [(Lane.CRITICAL, 90, 1)]


async def test_what_a_broker_that_is_away_did_not_take_is_given_back() -> None:
    rows = Rows({(Lane.LOW, "m"): 5})

    assert (
        await dispatch(rows, Wire(broken=True), Open(1_200), Shares(), slice_size=32, isolation=Isolation("dispatch"))
        == 0
    )
    assert len(rows.given_back) == 5


def test_a_message_is_read_back_as_it_was_written() -> None:
    jobs = [Published(job_id=JobId("a"), generation=3)]

    assert parse_message(message(jobs)) == jobs


async def test_a_deep_flow_is_refilled_by_quarters_to_travel_in_full_slices() -> None:
    rows, wire = Rows({(Lane.LOW, "m"): 1_000}, {(Lane.LOW, "m"): 80}), Wire()

    assert await dispatch(rows, wire, Open(100), Shares(), slice_size=8, isolation=Isolation("dispatch")) == 0
    rows.ahead[Lane.LOW, "m"] = 30

    assert await dispatch(rows, wire, Open(100), Shares(), slice_size=8, isolation=Isolation("dispatch")) == 70
    assert wire.sent == [(Lane.LOW, 70, 8)]


class OddRows(Rows):
    """A backlog of which one flow cannot be taken."""

    async def take(
        self, lane: Lane, model: str, most: int, *, capacities: Mapping[TenantId, ShareCapacity]
    ) -> Sequence[Published]:
        if model == "odd":
            raise OverflowError
        return await super().take(lane, model, most, capacities=capacities)


async def test_a_flow_that_cannot_be_taken_holds_up_no_other() -> None:
    rows, wire = OddRows({(Lane.LOW, "odd"): 10, (Lane.LOW, "fine"): 10}), Wire()

    assert await dispatch(rows, wire, Open(100), Shares(), slice_size=32, isolation=Isolation("dispatch")) == 10

    assert wire.sent == [(Lane.LOW, 10, 1)]


async def test_the_capacity_of_each_share_reaches_the_backlog() -> None:
    rows, wire, given = Rows({(Lane.LOW, "m"): 5}), Wire(), {TenantId("a"): ShareCapacity(jobs=3)}

    await dispatch(rows, wire, Open(100), Shares(given), slice_size=32, isolation=Isolation("dispatch"))

    assert rows.capacities == given
