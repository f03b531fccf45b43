import json

from config.broker import QUEUES, caller_options, worker_options
from config.settings import Settings
from schemas.lanes import Lane


def settings(**changes: object) -> Settings:
    given = {"redis_url": "redis://h/0", "database_url": "postgresql://h/d"} | changes
    return Settings(**given)  # type: ignore[arg-type]  # pydantic reads them


def test_queues_are_the_lanes_in_their_order() -> None:
    assert list(QUEUES) == [lane.queue for lane in Lane]


def test_options_are_plain_data_that_a_worker_may_show() -> None:
    assert json.loads(json.dumps(worker_options(settings()))) is not None
    assert json.loads(json.dumps(caller_options("redis://h/0"))) is not None


def test_what_would_double_messages_or_stop_the_prefetch_is_never_set() -> None:
    options = worker_options(settings())

    assert not {"retry_on_timeout", "retry"} & options["broker_transport_options"].keys()
    assert not {"worker_eta_task_limit", "result_backend", "task_time_limit"} & options.keys()


def test_only_json_is_read() -> None:
    assert caller_options("redis://h/0")["accept_content"] == ["json"]


def test_a_worker_takes_more_messages_than_it_has_slots() -> None:
    assert worker_options(settings(slots=100))["worker_concurrency"] > 100
