"""Slots and order against a real broker: one worker with few slots, whose lanes are full."""

import time
from collections.abc import Iterator

import pytest

from schemas.lanes import Lane
from tests.support.worker_process import Broker, WorkerProcess, until

SLOTS, RESERVED, SLICE = 10, 2, 4


@pytest.fixture(scope="module")
def worker(broker: Broker) -> Iterator[WorkerProcess]:
    with WorkerProcess.start(
        broker,
        PENSTOCK_SLOTS=SLOTS,
        PENSTOCK_RESERVED_CRITICAL_SLOTS=RESERVED,
        PENSTOCK_SLICE_SIZE=SLICE,
        PENSTOCK_DRAIN_GRACE_SECONDS=0,
    ) as worker:
        yield worker


@pytest.fixture(autouse=True)
def empty(broker: Broker) -> Iterator[None]:
    yield
    until(lambda: broker.waiting() + broker.unacknowledged() == 0, "everything is acknowledged")
    broker.redis.delete("test:started", "test:ended", "test:peak", "test:starts", "test:by")


def test_lower_lanes_never_take_the_reserved_slots(broker: Broker, worker: WorkerProcess) -> None:
    ids = [f"sleep_0.02_{index}" for index in range(60)]

    broker.publish(Lane.LOW, ids, SLICE)
    until(lambda: len(broker.noted("test:ended")) == len(ids), "all ran")

    assert max(broker.noted("test:peak").values()) == SLOTS - RESERVED


def test_a_critical_job_starts_at_once_while_every_other_slot_is_taken(broker: Broker, worker: WorkerProcess) -> None:
    broker.publish(Lane.LOW, [f"sleep_0.5_{index}" for index in range(SLOTS + SLICE)], SLICE)
    until(lambda: len(broker.noted("test:started")) == SLOTS - RESERVED, "the slots are taken")

    before = time.time()
    broker.publish(Lane.CRITICAL, ["critical"])
    until(lambda: "critical" in broker.noted("test:ended"), "the critical job ran")

    assert broker.noted("test:started")["critical"] - before < 0.1
    assert len(broker.noted("test:started")) == SLOTS - RESERVED + 1


def test_a_full_lane_stays_at_the_broker_and_is_asked_once_there_is_room(broker: Broker, worker: WorkerProcess) -> None:
    ids = [f"sleep_0.3_{index}" for index in range(2 * (SLOTS - RESERVED))]

    broker.publish(Lane.LOW, ids, SLICE)
    until(lambda: len(broker.noted("test:started")) == SLOTS - RESERVED, "the slots are taken")
    assert broker.waiting() == len(ids) / SLICE / 2
    until(lambda: len(broker.noted("test:ended")) == len(ids), "all ran")

    started, ended = sorted(broker.noted("test:started").values()), sorted(broker.noted("test:ended").values())
    assert started[SLOTS - RESERVED] - ended[SLICE - 1] < 0.2  # not the second that a BRPOP blocks


def test_a_high_job_needs_one_slot_where_a_slice_needs_many(broker: Broker, worker: WorkerProcess) -> None:
    broker.publish(Lane.HIGH, [f"sleep_0.5_{index}" for index in range(SLOTS - RESERVED - 1)])
    until(lambda: len(broker.noted("test:started")) == SLOTS - RESERVED - 1, "all slots but one are taken")

    broker.publish(Lane.LOW, ["slice-1", "slice-2"], 2)
    broker.publish(Lane.HIGH, ["sleep_0.5_high"])
    until(lambda: "sleep_0.5_high" in broker.noted("test:started"), "the high job runs")

    assert "slice-1" not in broker.noted("test:started")


def test_a_busy_worker_leaves_critical_jobs_to_one_that_has_nothing_else(broker: Broker, worker: WorkerProcess) -> None:
    with WorkerProcess.start(broker, Lane.CRITICAL, Lane.HIGH) as urgent:
        broker.publish(Lane.LOW, [f"sleep_4_{index}" for index in range(SLICE)], SLICE)
        until(lambda: len(broker.noted("test:started")) == SLICE, "the other is busy")

        for number in range(10):
            until(lambda: broker.redis.info("clients")["blocked_clients"] >= 2, "both ask")
            broker.publish(Lane.CRITICAL, [f"critical-{number}"])
            until(lambda name=f"critical-{number}": name in broker.noted("test:ended"), "it ran")  # type: ignore[misc]

        ran_by = broker.noted("test:by")
        until(lambda: broker.waiting() + broker.unacknowledged() == 1, "only the slice is left")
        assert [ran_by[f"critical-{number}"] for number in range(10)] == [urgent.process.pid] * 10
