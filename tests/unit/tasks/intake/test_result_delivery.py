"""A Celery caller's result is delivered when its job rests, and noted only afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from schemas.accepted import JobResult
from schemas.errors import RedisUnavailable
from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.states import JobState
from storage.tenancy.celery_results import Delivery
from tasks.intake.result_delivery import Deliveries
from tasks.maintenance.items import MOST_FAILURES


@dataclass
class Promises:
    waiting: list[str]
    done: list[str] = field(default_factory=list)

    async def notice_rested(self) -> int:
        return 0

    async def ready(self) -> list[Delivery]:
        return [Delivery(task_id=name, job_id=JobId(name), reply_to=None) for name in self.waiting]

    async def delivered(self, task_ids: Sequence[str]) -> int:
        self.done += task_ids
        return len(task_ids)


@dataclass
class Ends:
    ends: dict[str, JobState]

    async def rested(self, job_id: JobId) -> JobResult | None:
        state = self.ends.get(job_id)
        return state and JobResult(job_id=job_id, state=state, lane=Lane.LOW, reply={"id": "x"}, message="because")


@dataclass
class Backend:
    values: dict[str, JsonObject] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    away: bool = False

    async def succeed(self, task_id: str, value: JsonObject) -> None:
        if self.away:
            raise RedisUnavailable
        self.values[task_id] = value

    async def fail(self, task_id: str, error: Exception) -> None:
        self.errors[task_id] = str(error)


async def test_a_completed_job_is_a_value_and_any_other_end_an_explained_error() -> None:
    promises, backend = Promises(["a", "b"]), Backend()
    ends = Ends({"a": JobState.COMPLETED, "b": JobState.DEAD})

    assert await Deliveries(promises, ends, backend).deliver() == 2

    assert backend.values["a"]["reply"] == {"id": "x"}
    assert "because" in backend.errors["b"]


async def test_a_result_that_could_not_be_delivered_stays_promised() -> None:
    promises = Promises(["a"])
    deliveries = Deliveries(promises, Ends({"a": JobState.COMPLETED}), Backend(away=True))

    with pytest.raises(RedisUnavailable):
        await deliveries.deliver()

    assert not promises.done


async def test_a_job_that_was_replayed_meanwhile_keeps_its_promise() -> None:
    promises = Promises(["a"])

    assert await Deliveries(promises, Ends({}), Backend()).deliver() == 0

    assert not promises.done


class OddBackend(Backend):
    """A backend that cannot write one of the values."""

    async def succeed(self, task_id: str, value: JsonObject) -> None:
        if task_id == "odd":
            raise OverflowError("secret words")
        await super().succeed(task_id, value)


async def test_an_unwritable_result_delays_no_other_and_its_caller_gets_an_error() -> None:
    promises, backend, clock = Promises(["odd", "b"]), OddBackend(), Clock()
    deliveries = Deliveries(promises, Ends(dict.fromkeys(promises.waiting, JobState.COMPLETED)), backend, clock=clock)

    assert await deliveries.deliver() == 1
    for _ in range(MOST_FAILURES):
        await deliveries.deliver()

    assert "OverflowError" in backend.errors["odd"]
    assert "secret" not in backend.errors["odd"]
    assert promises.done.count("odd") == 1


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1_000
        return self.seconds
