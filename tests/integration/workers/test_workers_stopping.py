"""Signals and crashes: what was published runs, at least once, whatever happens to the process that held it.

Redis forgets a message when it answers BRPOP. A message whose answer is lost with the connection is published again by
the dispatcher, because nobody claimed its jobs; here the test does so.
"""

import signal
import time

import pytest

from config.broker import TRANSPORT_OPTIONS
from schemas.lanes import Lane
from tests.support.worker_process import Broker, WorkerProcess, until

LONG_AGO_SECONDS = 1_000
JOBS_OF_A_MESSAGE = 16


@pytest.fixture(autouse=True)
def empty(broker: Broker) -> None:
    broker.redis.flushdb()


def test_sigterm_under_load_loses_nothing(broker: Broker) -> None:
    ids = [f"sleep_0.05_{index}" for index in range(900)]
    broker.publish(Lane.NORMAL, ids, 16)

    with WorkerProcess.start(broker, PENSTOCK_SLOTS=100) as first:
        until(lambda: len(broker.noted("test:ended")) > 200, "it is under load")
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        assert "drain_timed_out" not in first.log()
    assert len(broker.noted("test:ended")) == len(broker.noted("test:started")) < len(ids)
    assert broker.unacknowledged() == 0
    with WorkerProcess.start(broker) as second:
        until(lambda: len(broker.noted("test:ended")) == len(ids), "the rest ran")
        second.signal(signal.SIGTERM)
        assert second.wait() == 0

    assert set(broker.noted("test:starts").values()) == {1}
    assert broker.redis.mget("test:opened", "test:closed") == ["2", "2"]


def test_a_drain_gives_back_what_does_not_end_within_the_grace(broker: Broker) -> None:
    with WorkerProcess.start(broker, PENSTOCK_DRAIN_GRACE_SECONDS=0.3) as worker:
        broker.publish(Lane.NORMAL, ["sleep_60_long", "sleep_0.2_short"])
        until(lambda: len(broker.noted("test:started")) == 2, "both run")
        began = time.monotonic()
        worker.signal(signal.SIGTERM)

        assert worker.wait() == 0
        assert time.monotonic() - began < 4
    assert list(broker.noted("test:ended")) == ["sleep_0.2_short"]
    assert broker.waiting() == 1
    assert broker.redis.get("test:closed") == "1"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_is_quicker_and_as_safe(broker: Broker, second: int) -> None:
    with WorkerProcess.start(broker, PENSTOCK_DRAIN_GRACE_SECONDS=60) as worker:
        broker.publish(Lane.NORMAL, ["sleep_60_long"])
        until(lambda: broker.noted("test:started"), "it runs")
        worker.signal(signal.SIGTERM)
        until(lambda: b"Warm" in worker.log_bytes(), "it drains")
        began = time.monotonic()
        worker.signal(second)

        worker.wait()
        assert time.monotonic() - began < 4
    assert_handed_back(broker)


def test_sigquit_before_the_drain_has_begun_is_as_safe(broker: Broker) -> None:
    with WorkerProcess.start(broker, PENSTOCK_DRAIN_GRACE_SECONDS=60, TEST_HOLDS_STOP="test:go") as worker:
        broker.publish(Lane.NORMAL, ["sleep_60_long"])
        until(lambda: broker.noted("test:started"), "it runs")
        worker.signal(signal.SIGTERM)
        until(lambda: broker.redis.get("test:stop_begun"), "its stop has begun, and its pool does not know yet")
        worker.signal(signal.SIGQUIT)
        until(lambda: b"Cold" in worker.log_bytes(), "it has heard")
        broker.redis.rpush("test:go", "1")

        worker.wait()
    assert_handed_back(broker)


def test_sigquit_cancels_at_once(broker: Broker) -> None:
    with WorkerProcess.start(broker, PENSTOCK_DRAIN_GRACE_SECONDS=60) as worker:
        broker.publish(Lane.NORMAL, ["sleep_60_long"])
        until(lambda: broker.noted("test:started"), "it runs")
        began = time.monotonic()
        worker.signal(signal.SIGQUIT)

        worker.wait()
        assert time.monotonic() - began < 4
    assert_handed_back(broker)


def assert_handed_back(broker: Broker) -> None:
    """The job had the time to give up its lease, the services were closed after it, and the message is not lost."""
    assert list(broker.noted("test:handed_back")) == ["sleep_60_long"]
    assert broker.waiting() + broker.unacknowledged() == 1
    assert broker.redis.get("test:closed") == "1"


def test_a_lost_connection_loses_one_message_at_most(broker: Broker) -> None:
    ids = [f"sleep_0.05_{index}" for index in range(400)]
    with WorkerProcess.start(broker, PENSTOCK_SLOTS=64) as worker:
        broker.publish(Lane.LOW, ids, JOBS_OF_A_MESSAGE)
        until(lambda: len(broker.noted("test:ended")) > 100, "it is under load")
        for client in broker.redis.client_list():
            if client["name"] == TRANSPORT_OPTIONS["client_name"]:
                broker.redis.client_kill_filter(_id=client["id"])
        broker.publish(Lane.LOW, ["sleep_0_last"])
        until(lambda: "sleep_0_last" in broker.noted("test:ended"), "the lane is read to its end")
        until(lambda: broker.unacknowledged() + broker.waiting() == 0, "all is acknowledged")
        lost = sorted(set(ids) - set(broker.noted("test:ended")))
        assert len(lost) <= JOBS_OF_A_MESSAGE
        broker.publish(Lane.LOW, lost, JOBS_OF_A_MESSAGE)
        until(lambda: set(ids) <= set(broker.noted("test:ended")), "all ran")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_the_messages_of_a_killed_worker_are_delivered_again(broker: Broker) -> None:
    with WorkerProcess.start(broker) as killed:
        broker.publish(Lane.NORMAL, ["sleep_1_a", "sleep_1_b"])
        until(lambda: len(broker.noted("test:started")) == 2, "both run")
        killed.signal(signal.SIGKILL)
        killed.wait()
    assert broker.unacknowledged() == 2

    for tag, since in broker.redis.zrange("unacked_index", 0, -1, withscores=True):
        broker.redis.zadd("unacked_index", {tag: since - LONG_AGO_SECONDS})  # the visibility time-out has passed
    with WorkerProcess.start(broker):
        until(lambda: len(broker.noted("test:ended")) == 2, "both ran")

    assert broker.noted("test:starts") == {"sleep_1_a": 2, "sleep_1_b": 2}
