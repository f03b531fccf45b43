"""The run-ahead is bounded per flow, and a broker that is away loses nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.ids import JobId
from schemas.lanes import Lane
from tasks.dispatch import Flow, dispatch
from tasks.publish import Published, message, parse_message
from tests.support.outlet import Wire


@dataclass
class Rows:
    waiting: dict[tuple[Lane, str], int]
    ahead: dict[tuple[Lane, str], int] = field(default_factory=dict)

    async def flows(self) -> Sequence[Flow]:
        return [
            Flow(lane=lane, model=model, run_ahead=self.ahead.get((lane, model), 0))
            for (lane, model), depth in self.waiting.items()
            if depth
        ]

    async def take(self, flow: Flow, most: int) -> Sequence[Published]:
        key = (flow.lane, flow.model)
        taken = min(most, self.waiting[key])
        self.waiting[key] -= taken
        self.ahead[key] = self.ahead.get(key, 0) + taken
        return [Published(job_id=JobId(f"{flow.model}{n}"), generation=0) for n in range(taken)]


async def test_a_million_queued_jobs_publish_only_the_run_ahead() -> None:
    rows, wire = Rows({(Lane.LOW, "m"): 1_000_000}), Wire()

    await dispatch(rows, wire, slice_size=32, run_ahead=100)
    await dispatch(rows, wire, slice_size=32, run_ahead=100)

    assert wire.sent == [(Lane.LOW, 100, 32)]


async def test_an_exhausted_model_does_not_hold_up_another() -> None:
    rows, wire = Rows({(Lane.LOW, "full"): 10, (Lane.LOW, "free"): 10}, {(Lane.LOW, "full"): 100}), Wire()

    await dispatch(rows, wire, slice_size=32, run_ahead=100)

    assert wire.sent == [(Lane.LOW, 10, 1)]


async def test_critical_jobs_travel_one_by_one() -> None:
    rows, wire = Rows({(Lane.CRITICAL, "m"): 90}), Wire()

    await dispatch(rows, wire, slice_size=32)

    assert wire.sent == [(Lane.CRITICAL, 90, 1)]


async def test_a_broker_that_is_away_is_no_error() -> None:
    rows = Rows({(Lane.LOW, "m"): 5})

    assert await dispatch(rows, Wire(broken=True), slice_size=32) == 0


def test_a_message_is_read_back_as_it_was_written() -> None:
    jobs = [Published(job_id=JobId("a"), generation=3)]

    assert parse_message(message(jobs)) == jobs


async def test_a_deep_flow_is_refilled_by_the_quarter_so_that_it_travels_in_full_slices() -> None:
    rows, wire = Rows({(Lane.LOW, "m"): 1_000}, {(Lane.LOW, "m"): 80}), Wire()

    assert await dispatch(rows, wire, slice_size=8, run_ahead=100) == 0
    rows.ahead[Lane.LOW, "m"] = 30

    assert await dispatch(rows, wire, slice_size=8, run_ahead=100) == 70
    assert wire.sent == [(Lane.LOW, 70, 8)]
