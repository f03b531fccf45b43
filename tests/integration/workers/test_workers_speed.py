"""How fast one worker process moves jobs that do nothing, and how soon a critical one starts behind a backlog."""

import time
from collections.abc import Iterator

import pytest

from schemas.lanes import Lane
from tests.support.worker_process import Broker, WorkerProcess, until

JOBS, SLICE = 9_600, 32
FLOOR_JOBS_PER_SECOND = 1_000


@pytest.fixture(scope="module")
def worker(broker: Broker) -> Iterator[WorkerProcess]:
    with WorkerProcess.start(broker, PENSTOCK_SLOTS=96) as worker:
        yield worker


def test_one_process_moves_well_over_a_thousand_jobs_per_second(broker: Broker, worker: WorkerProcess) -> None:
    broker.redis.delete("test:quick")
    began = time.monotonic()
    broker.publish(Lane.LOW, [f"quick_{index}" for index in range(JOBS)], SLICE)
    until(lambda: int(broker.redis.get("test:quick") or 0) == JOBS, "all ran")

    rate = JOBS / (time.monotonic() - began)
    print(f"{rate:.0f} jobs/s")  # noqa: T201 - shown by pytest -s
    assert rate > FLOOR_JOBS_PER_SECOND


def test_a_critical_job_behind_ten_thousand_low_ones_starts_at_once(broker: Broker, worker: WorkerProcess) -> None:
    broker.publish(Lane.LOW, [f"sleep_0.02_{index}" for index in range(JOBS)], SLICE)
    until(lambda: len(broker.noted("test:started")) > SLICE, "the low jobs run")

    before = time.time()
    broker.publish(Lane.CRITICAL, ["critical"])
    until(lambda: "critical" in broker.noted("test:started"), "the critical job runs")

    latency = broker.noted("test:started")["critical"] - before
    print(f"{latency * 1000:.0f} ms")  # noqa: T201 - shown by pytest -s
    assert latency < 0.1
    broker.redis.delete(Lane.LOW.queue)
