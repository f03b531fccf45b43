"""A broker of the test's own that is lost, demoted or full: whoever publishes learns of it, and no worker ends."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from schemas.errors import RedisUnavailable
from schemas.ids import JobId
from schemas.job import Published
from schemas.lanes import Lane
from stack.home import Home
from stack.valkey import Valkey
from tasks.dispatch.celery_app import celery_app
from tasks.dispatch.publisher import Publisher
from tests.support.worker_process import Broker, WorkerProcess, until

JOBS = [Published(job_id=JobId("job_1"), generation=0)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    home = Home(Path(tmp_path_factory.mktemp("own")))
    with home.locked(), Valkey(home).running() as running:
        yield running


@pytest.fixture
def broker(server: Valkey) -> Iterator[Broker]:
    broker = Broker(server.url)
    yield broker
    broker.close()


@pytest.fixture
def publisher(server: Valkey) -> Iterator[Publisher]:
    app = celery_app(server.url)
    yield Publisher(app)
    app.close()


def answers(broker: Broker) -> bool:
    with suppress(redis.RedisError):
        return bool(broker.redis.ping())
    return False


async def refuses(publisher: Publisher) -> None:
    for _ in range(2):  # the first fails as a batch, the next when it connects
        with pytest.raises(RedisUnavailable):
            await publisher.publish(Lane.HIGH, JOBS)


async def test_publishing_to_an_absent_demoted_or_full_broker_says_unavailable(
    broker: Broker, server: Valkey, publisher: Publisher
) -> None:
    await publisher.publish(Lane.HIGH, JOBS)

    broker.redis.replicaof("127.0.0.1", 1)
    await refuses(publisher)
    broker.redis.replicaof("NO", "ONE")
    await publisher.publish(Lane.HIGH, JOBS)

    broker.redis.config_set("maxmemory", 1)
    await refuses(publisher)
    broker.redis.config_set("maxmemory", 0)
    await publisher.publish(Lane.HIGH, JOBS)

    await asyncio.to_thread(server.stop)
    await refuses(publisher)
    server.start()
    until(lambda: answers(broker), "the broker is back")
    await publisher.publish(Lane.HIGH, JOBS)


def test_a_worker_survives_a_broker_that_is_demoted_and_takes_no_writes(broker: Broker, server: Valkey) -> None:
    broker.redis.flushall()
    with WorkerProcess.start(
        broker, PENSTOCK_SLOTS=10, PENSTOCK_RESERVED_CRITICAL_SLOTS=2, PENSTOCK_SLICE_SIZE=4
    ) as worker:
        broker.publish(Lane.LOW, [f"sleep_1_{index}" for index in range(2)], 2)
        until(lambda: len(broker.noted("test:started")) == 2, "the worker is at work")

        broker.redis.replicaof("127.0.0.1", 1)  # its BRPOP ends with an error, and so does its acknowledgement
        until(lambda: "broker_refuses" in worker.log(), "it knows that it is refused")
        broker.redis.replicaof("NO", "ONE")

        broker.publish(Lane.LOW, [f"after-{index}" for index in range(12)], 2)
        until(lambda: all(f"after-{index}" in broker.noted("test:ended") for index in range(12)), "it works on")
        assert worker.process.poll() is None
        assert worker.log().count("broker_refuses") == 1
        assert "Frequent restarts" not in worker.log()
