"""What callers of the tasks get, what they may not ask for, and what a worker does with messages that are none."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Signature, group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from schemas.lanes import Lane
from stack.home import free_port
from tests.support.worker_process import Broker, WorkerProcess, until

BODY = {"model": "small", "messages": [{"role": "user", "content": "a private prompt"}]}
SUBMIT, COMPLETE = "completions.submit", "completions.complete"
WAIT_SECONDS = 10
LINKED = Signature("linked.task", options={"queue": Lane.NORMAL.queue})


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def worker(broker: Broker, metrics_port: int) -> Iterator[WorkerProcess]:
    with WorkerProcess.start(broker, PENSTOCK_METRICS_PORT=metrics_port) as worker:
        yield worker


def sent(broker: Broker, task: str, *args: object, queue: Lane = Lane.NORMAL, **options: object) -> AsyncResult:
    return broker.app.send_task(task, args=args, queue=queue.queue, **options)


def refusal(result: AsyncResult) -> str:
    with pytest.raises(Exception, match=r".") as raised:
        result.get(timeout=WAIT_SECONDS)
    return f"{type(raised.value).__name__}: {raised.value}"


def test_submit_answers_with_the_job_id_and_the_queue_is_the_lane(broker: Broker, worker: WorkerProcess) -> None:
    assert sent(broker, SUBMIT, BODY, queue=Lane.HIGH).get(timeout=WAIT_SECONDS) == "job_high"


def test_complete_answers_when_the_job_rests(broker: Broker, worker: WorkerProcess) -> None:
    assert sent(broker, COMPLETE, BODY).get(timeout=WAIT_SECONDS) == {"id": "job_normal", "reply": "done"}


def test_a_group_of_results_works(broker: Broker, worker: WorkerProcess) -> None:
    task = broker.app.signature(SUBMIT, args=[BODY], queue=Lane.LOW.queue)

    assert group([task, task], app=broker.app).apply_async().get(timeout=WAIT_SECONDS) == ["job_low", "job_low"]


def test_an_invalid_body_is_an_exception_with_our_sentence(broker: Broker, worker: WorkerProcess) -> None:
    result = sent(broker, SUBMIT, {"fault": "invalid"})

    assert refusal(result) == "InvalidRequest: messages must be a non-empty array."


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"link": LINKED}, "link"),
        ({"link_error": LINKED}, "link_error"),
        ({"chain": [LINKED]}, "chain"),
        ({"chord": LINKED}, "chord"),
        ({"countdown": 60}, "eta and countdown"),
    ],
)
def test_what_celery_would_do_on_its_own_is_refused_by_name(
    broker: Broker, worker: WorkerProcess, options: dict[str, Any], word: str
) -> None:
    result = sent(broker, COMPLETE, BODY, **options)

    assert refusal(result).startswith(f"InvalidRequest: {word}: not supported here.")
    after = f"after {word}".replace(" ", "-")
    broker.publish(Lane.NORMAL, [after])
    until(lambda: after in broker.noted("test:ended"), "the next message is run")
    assert "linked.task" not in worker.log()  # nothing was published in its place


def test_there_is_one_positional_argument(broker: Broker, worker: WorkerProcess) -> None:
    assert "one positional argument" in refusal(sent(broker, SUBMIT, BODY, BODY))
    assert "one positional argument" in refusal(sent(broker, SUBMIT, kwargs={"body": BODY}))


def test_a_fault_of_ours_ends_the_callers_wait_without_its_details(broker: Broker, worker: WorkerProcess) -> None:
    said = refusal(sent(broker, SUBMIT, {"fault": "bug"}))

    assert said.startswith("PenstockError: The job was not taken in because of a fault of ours")
    until(lambda: "LookupError" in worker.log(), "the traceback is logged")


def test_a_store_that_is_away_is_waited_for(broker: Broker, worker: WorkerProcess) -> None:
    assert sent(broker, SUBMIT, {"fault": "away"}).get(timeout=WAIT_SECONDS) == "job_normal"


def test_nothing_is_delivered_to_whoever_wants_nothing(broker: Broker, worker: WorkerProcess) -> None:
    silent = sent(broker, SUBMIT, BODY, ignore_result=True)
    sent(broker, SUBMIT, BODY).get(timeout=WAIT_SECONDS)
    until(lambda: broker.unacknowledged() == 0, "both are done")

    assert broker.redis.get(f"celery-task-meta-{silent.id}") is None


def test_a_message_that_was_revoked_before_it_came_tells_its_caller(broker: Broker, worker: WorkerProcess) -> None:
    broker.app.control.revoke("revoked-early", reply=True, timeout=1, limit=1)

    with pytest.raises(TaskRevokedError):
        sent(broker, SUBMIT, BODY, task_id="revoked-early").get(timeout=WAIT_SECONDS)


def test_a_revoke_after_its_message_cancels_the_job_that_was_promised(broker: Broker, worker: WorkerProcess) -> None:
    result = sent(broker, COMPLETE, BODY)
    result.get(timeout=WAIT_SECONDS)

    result.revoke()

    until(lambda: result.id in broker.redis.lrange("test:cancelled", 0, -1), "the services were told")


def test_a_running_slice_can_be_revoked(broker: Broker, worker: WorkerProcess) -> None:
    body = {"v": 1, "jobs": [["sleep_60_revoked", 0]]}
    result = sent(broker, "completions.run", body, ignore_result=True)
    until(lambda: "sleep_60_revoked" in broker.noted("test:started"), "it runs")

    broker.app.control.revoke(result.id, terminate=True, reply=True, timeout=1, limit=1)

    until(lambda: broker.unacknowledged() == 0, "it was cancelled and acknowledged")


def test_each_task_sees_its_own_request(broker: Broker, worker: WorkerProcess) -> None:
    results = [sent(broker, "tests.own_request", f"mark {index}", ignore_result=True) for index in range(200)]
    until(lambda: broker.redis.llen("test:requests") == len(results), "all noted theirs")

    seen = {found["before"]: found for found in map(json.loads, broker.redis.lrange("test:requests", 0, -1))}
    assert {result.id for result in results} == set(seen)
    assert all(found["after"] == found["before"] for found in seen.values())
    assert all(found["args"] == [found["mark"]] for found in seen.values())


def test_a_job_that_is_a_bug_does_not_stop_its_slice(broker: Broker, worker: WorkerProcess) -> None:
    broker.publish(Lane.NORMAL, ["fail_bug", "fine"], 2)

    until(lambda: "fine" in broker.noted("test:ended"), "the other ran")
    until(lambda: broker.unacknowledged() == 0, "the slice is acknowledged")


def test_prompts_are_shown_to_nobody(broker: Broker, worker: WorkerProcess) -> None:
    broker.publish(Lane.NORMAL, ["sleep_1_a-private-name"])
    until(lambda: "sleep_1_a-private-name" in broker.noted("test:started"), "it runs")

    inspected = broker.app.control.inspect(timeout=1, limit=1)
    active, stats = inspected.active(), broker.app.control.inspect(timeout=1, limit=1).stats()

    assert "completions.run" in json.dumps(active)
    assert "private" not in json.dumps(active)
    assert next(iter(stats.values()))["pool"]["max-concurrency"] > 0


def test_events_show_a_task_and_not_its_prompt(broker: Broker, worker: WorkerProcess) -> None:
    heard: list[str] = []
    events = broker.redis.pubsub(ignore_subscribe_messages=True)
    events.psubscribe("*celeryev*")

    def all_heard() -> bool:
        message = events.get_message(timeout=0.05)
        if message is not None:
            heard.append(base64.b64decode(json.loads(message["data"])["body"]).decode())
        return "task-succeeded" in "".join(heard)

    until(lambda: broker.redis.pubsub_numpat() > 0, "the events are listened to")
    sent(broker, COMPLETE, BODY).get(timeout=WAIT_SECONDS)
    until(all_heard, "the event of its end")
    events.close()

    assert "task-received" in "".join(heard)
    assert "private" not in "".join(heard)


def test_metrics_are_served_where_asked_for(broker: Broker, worker: WorkerProcess, metrics_port: int) -> None:
    sent(broker, SUBMIT, BODY, queue=Lane.HIGH).get(timeout=WAIT_SECONDS)

    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as answer:
        text = answer.read().decode()

    assert 'penstock_messages_total{end="taken",lane="high",task="completions.submit"}' in text
    assert "penstock_slots_in_use " in text
    assert "penstock_loop_delay_seconds_count" in text


def envelope(body: bytes = b"[[{}], {}, {}]", **changes: object) -> dict[str, Any]:
    """A message as kombu puts it onto a list; name what differs, None removes."""
    parts: dict[str, Any] = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "completions.run", "id": "1", "argsrepr": "a private prompt"},
        "properties": {
            "correlation_id": "1",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": Lane.NORMAL.queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "tag",
        },
    }
    return {name: value for name, value in (parts | changes).items() if value is not None}


HEADERS = {"lang": "py", "id": "1"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown task", envelope(headers={**HEADERS, "task": "private.prompt.task"})),
        ("no task", envelope(headers=HEADERS)),
        ("no json", envelope(b"a private prompt")),
        ("no list", envelope(b"5")),
        ("short list", envelope(b'["a private prompt"]')),
        ("no slice", envelope(b'[["a private prompt"], {}, {}]')),
        ("two arguments", envelope(b"[[1, 2], {}, {}]")),
        ("keywords", envelope(b'[[], {"a": 1}, {}]')),
        ("pickle", envelope(**{"content-type": "application/x-python-serialize"})),
        ("wrong time", envelope(headers={**HEADERS, "task": "completions.run", "expires": "a private prompt"})),
        ("no pairs", envelope(b'[[{"v": 1, "jobs": [5]}], {}, {}]')),
        ("a word for a number", envelope(b'[[{"v": 1, "jobs": [["job", "a private prompt"]]}], {}, {}]')),
        ("bad pairs", envelope(b'[[{"v": 1, "jobs": [["only id"]]}], {}, {}]')),
        ("a list as a task", envelope(headers={**HEADERS, "task": ["a private prompt"]})),
        ("a list as an id", envelope(headers={"lang": "py", "task": "completions.submit", "id": ["a private prompt"]})),
        ("an old list as a task", envelope(b'{"task": ["a private prompt"], "id": "1"}', headers={})),
        ("an unknown charset", envelope(**{"content-encoding": "a private prompt"})),
    ],
)
def test_a_message_that_is_none_never_ends_the_worker(
    broker: Broker, worker: WorkerProcess, name: str, message: dict[str, Any]
) -> None:
    broker.redis.lpush(Lane.NORMAL.queue, json.dumps(message))
    after = f"after {name}".replace(" ", "-")
    broker.publish(Lane.NORMAL, [after])

    until(lambda: after in broker.noted("test:ended"), "the next message is run")
    until(lambda: broker.unacknowledged() == 0, "the message is gone")
    assert worker.process.poll() is None
    assert "message_refused" in worker.log() or "raised unexpected" in worker.log()
    assert "a private prompt" not in worker.log()


PROPERTIES = envelope()["properties"]
RAW_ITEMS: list[bytes] = [
    b"a private prompt",
    b"",
    b"\xff\xfe\x00a private prompt",
    b"[" * 100_000,
    b"x" * 5_000_000,
    b'["a private prompt"]',
    b'"a private prompt"',
    b"7",
    b"null",
    b"{}",
    b'{"__type__": "uuid", "__value__": {"hex": ["a private prompt"]}}',
    b'{"properties": ["a private prompt"]}',
    *(
        json.dumps(each).encode()
        for each in (
            envelope(headers=["a private prompt"]),
            envelope(headers=7),
            {**envelope(), "body": None},
            {**envelope(), "body": "a private prompt, and no base64"},
            {**envelope(), "body": ["a private prompt"]},
            {**envelope(), "content-type": ["a private prompt"]},
            {**envelope(), "properties": {**PROPERTIES, "delivery_tag": ["a private prompt"]}},
            {**envelope(), "properties": {**PROPERTIES, "delivery_tag": ""}},
            {**envelope(), "properties": {**PROPERTIES, "delivery_info": None}},
            {**envelope(), "properties": {**PROPERTIES, "delivery_info": {"exchange": [], "routing_key": {}}}},
            {**envelope(), "properties": {**PROPERTIES, "body_encoding": "a private prompt"}},
        )
    ),
]


@pytest.mark.parametrize("number", range(len(RAW_ITEMS)))
def test_an_item_that_is_no_message_is_dropped_and_counted(
    broker: Broker, worker: WorkerProcess, metrics_port: int, number: int
) -> None:
    before = dropped(metrics_port)
    broker.redis.lpush(Lane.NORMAL.queue, RAW_ITEMS[number])
    broker.publish(Lane.NORMAL, [f"after-item-{number}"])

    until(lambda: f"after-item-{number}" in broker.noted("test:ended"), "the next message is run")
    until(lambda: broker.unacknowledged() == 0, "nothing of it is left")
    assert worker.process.poll() is None
    assert dropped(metrics_port) == before + 1
    assert "items_dropped" in worker.log()
    assert "a private prompt" not in worker.log()


def dropped(metrics_port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("penstock_unreadable_items_total "))
