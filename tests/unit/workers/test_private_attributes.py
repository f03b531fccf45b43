"""One test for each name of Celery and kombu that is not theirs to promise and that we rely on."""

import inspect

from celery import Task, signals
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.worker import consumer, loops, state
from celery.worker.request import Request
from celery.worker.strategy import default
from greenlet import getcurrent, greenlet
from kombu.asynchronous import Hub
from kombu.connection import Connection
from kombu.transport import redis

from workers.broker.transport import LaneChannel, LaneConnection, LaneTransport


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]  # modules, classes and functions alike


def test_the_tracer_calls_a_task_that_defines_call() -> None:
    assert "task_has_custom(task, '__call__')" in source(build_tracer)


def test_a_task_keeps_its_requests_on_a_stack_and_reads_the_top() -> None:
    assert "self.request_stack.top" in source(Task._get_request)  # noqa: SLF001 - the name under test


def test_the_tracer_publishes_what_the_request_names_and_clearing_suffices() -> None:
    text = source(build_tracer)

    assert "task.request.callbacks" in text
    assert "task_request.chain" in text
    assert {"callbacks", "errbacks", "chain", "chord"} <= vars(Context).keys()


def test_a_greenlet_shares_the_context_of_its_driver() -> None:
    assert greenlet(print).gr_context is None
    assert hasattr(getcurrent(), "gr_context")


def test_the_channel_orders_its_queues_by_a_cycle_made_without_arguments() -> None:
    assert "self._queue_cycle = cycle_by_name(self.queue_order_strategy)()" in source(redis.Channel.__init__)
    assert "self._queue_cycle.consume(len(self.active_queues))" in source(redis.Channel._brpop_start)  # noqa: SLF001


def test_a_brpop_without_queues_is_not_sent_and_in_poll_shows_if_one_is() -> None:
    text = source(redis.Channel._brpop_start)  # noqa: SLF001

    assert "if not queues:\n            return" in text
    assert "self._in_poll = self.client.connection" in text
    assert "self._in_poll = None" in source(redis.Channel._brpop_read)  # noqa: SLF001


def test_the_channel_makes_a_client_per_use_which_is_what_we_share() -> None:
    assert "yield self._create_client()" in source(redis.Channel.conn_or_acquire)
    assert issubclass(LaneChannel, redis.Channel)


def test_a_redis_url_gets_our_transport_and_others_their_own() -> None:
    assert LaneConnection("redis://localhost").get_transport_cls() is LaneTransport
    assert LaneConnection("rediss://localhost").get_transport_cls() is LaneTransport
    assert LaneConnection("memory://").get_transport_cls() is Connection("memory://").get_transport_cls()
    assert LaneConnection("redis://:pw@localhost").as_uri() == "redis://:**@localhost:6379//"


def test_call_soon_of_the_hub_is_safe_from_another_thread() -> None:
    assert "self._ready_lock" in source(Hub.call_soon)
    assert "waker.wake()" in source(Hub.call_soon)


def test_acknowledgements_run_in_the_hub_and_when_it_closes() -> None:
    assert "self.hub.call_soon(p)" in source(consumer.Consumer.call_soon_ack)
    assert "todos = self._pop_ready()" in source(Hub._close)  # noqa: SLF001


def test_shutdown_is_a_flag_that_may_be_asked_for() -> None:
    assert state.should_stop is None
    assert state.should_terminate is None
    assert "maybe_shutdown" in source(loops.asynloop)
    assert signals.worker_shutting_down is not None


def test_the_strategy_reads_eta_and_the_shown_arguments_from_the_headers() -> None:
    assert "self._request_dict.get('eta')" in source(Request.__init__)
    assert "self._request_dict.get('argsrepr', '')" in source(Request.__init__)
    assert "headers, False" in source(default)  # protocol 2: the message's own headers


def test_inspect_shows_a_request_by_info() -> None:
    assert "self._args if not safe else self._argsrepr" in source(Request.info)
