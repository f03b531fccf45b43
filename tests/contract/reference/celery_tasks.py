"""The Celery contract: tasks, queues, bodies, results, refusals, and the options that say when a message is done."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from celery.exceptions import TaskRevokedError

import workers.tasks
from config.broker import DEFAULT_QUEUE, QUEUES, TRANSPORT_OPTIONS, worker_options
from config.settings import Settings
from schemas.accepted import JobResult
from schemas.errors import IdempotencyConflict, InvalidRequest, PenstockError, ShareUsedUp
from schemas.ids import JobId
from schemas.lanes import Lane
from schemas.states import JobState
from stack.procfile import parse_procfile
from tasks.dispatch.publisher import RUN_TASK, Published, message
from tasks.intake.result_delivery import JobNotCompleted, completed_job
from tests.contract.reference import source
from tests.contract.reference.json_schema import Schema, constraint_of, type_of
from tests.contract.reference.markdown import code, codes, heading, items, page, prose, table
from workers.tasks import COMPLETE_TASK, PAUSES_SECONDS, REFUSED, SUBMIT_TASK

BODY_SCHEMA = source.ROOT / "docs" / "contract" / "completions.body.schema.json"
CALLER = source.ROOT / "examples" / "celery_caller.py"
TASK_LINE = re.compile(r"^ {4}(completions\.\w+) +(.+)$", re.MULTILINE)
CALLERS_TASKS = (SUBMIT_TASK, COMPLETE_TASK)
OPTIONS = (
    "task_serializer",
    "accept_content",
    "result_serializer",
    "result_expires",
    "task_acks_late",
    "task_acks_on_failure",
    "task_reject_on_worker_lost",
)
COMPLETED = JobResult(job_id=JobId("job_1"), state=JobState.COMPLETED, lane=Lane.NORMAL)


def celery_page() -> str:
    return page(
        "Celery tasks",
        prose(
            "Another service submits jobs by task name. It needs `celery`, the address of the broker "
            "(`PENSTOCK_REDIS_URL`), and nothing of Penstock. Whoever reaches the broker is trusted as an operator is."
        ),
        heading("A caller"),
        f"```python\n{CALLER.read_text(encoding='utf-8').strip()}\n```",
        heading("Tasks"),
        table(("task", "for", "what it does"), _tasks()),
        prose("A task takes one positional argument and nothing else, as JSON."),
        heading("Queues"),
        prose("The queue is the lane, unless the body names one in `lane`. Priorities of messages are not read."),
        table(("queue", "lane", "processes that take from it"), _queues()),
        *_body(),
        *_results(),
        *_refusals(),
        *_acknowledgements(),
        heading(f"The message of {RUN_TASK}"),
        prose(
            "Only Penstock sends it. It names jobs and their generations, and holds no prompt: "
            f"{code(json.dumps(message([Published(job_id=JobId('job_1'), generation=0)])))}. Schema: "
            "[completions.run.schema.json](../contract/completions.run.schema.json)."
        ),
    )


def _options() -> dict[str, Any]:
    return worker_options(Settings.model_validate({"redis_url": "redis://localhost", "database_url": "unused"}))


def _body() -> tuple[str, ...]:
    described = {name: part["description"] for name, part in _properties().items() if "description" in part}
    return (
        heading("Body"),
        prose(
            "It is the same for both tasks, and the same as over HTTP: "
            "[completions.body.schema.json](../contract/completions.body.schema.json). Fields that are not named here "
            "go to the model as they came. The same task id twice is one job."
        ),
        table(("field", "type", "constraint"), _fields()),
        items((code(name), text) for name, text in described.items()),
    )


def _results() -> tuple[str, ...]:
    hours = _options()["result_expires"] // 3600
    completed = (
        f"an object with {codes(completed_job(COMPLETED))}, once the job is completed. `reply` is the chat completion "
        "as the provider sent it."
    )
    return (
        heading("Results"),
        items(
            (
                (code(SUBMIT_TASK), "the id of the job, as soon as its row is committed."),
                (code(COMPLETE_TASK), completed),
            )
        ),
        prose(
            "Where there is no result, `AsyncResult.get` raises. Celery makes the class; its name says what happened:"
        ),
        table(("name", "when"), _errors()),
        prose(
            f"A result is kept for {hours} hours. It is delivered at least once: after a crash the same result may be "
            "delivered again. With `ignore_result` nothing is stored."
        ),
    )


def _errors() -> Iterator[tuple[str, str]]:
    yield code(InvalidRequest.__name__), "refused; the message names the field"
    yield code(IdempotencyConflict.__name__), "refused: the same key came before with another body"
    yield code(ShareUsedUp.__name__), "refused: the tenant has used its share"
    yield code(PenstockError.__name__), "a fault of ours; sending it again is safe"
    yield code(JobNotCompleted.__name__), "the job is dead, expired or cancelled; the message says why"
    yield code(TaskRevokedError.__name__), "revoked or expired before a worker took it"


def _refusals() -> tuple[str, ...]:
    return (
        heading("Features of Celery"),
        prose(f"Refused by name: {', '.join(REFUSED.values())}. Send the body alone and wait for its result."),
        prose(
            "`expires` and `AsyncResult.revoke` work on a message that no worker has taken. A later revoke cancels the "
            f"job of a {code(COMPLETE_TASK)}, and its `get` raises {code(JobNotCompleted.__name__)}."
        ),
    )


def _acknowledgements() -> tuple[str, ...]:
    redelivery, patience, options = TRANSPORT_OPTIONS["visibility_timeout"], round(sum(PAUSES_SECONDS)), _options()
    of_callers = (
        "after the row of the job is committed. When the worker dies before, the broker delivers the message again "
        f"after {redelivery} s. While a store is away, the worker tries for {patience} s and puts the message back. "
        "What is refused is acknowledged too."
    )
    of_ours = (
        "when its jobs are recorded or handed back. It may be lost or come twice without harm: the lease in Postgres "
        "says who runs a job."
    )
    return (
        heading("When a message is acknowledged"),
        items(((codes(CALLERS_TASKS), of_callers), (code(RUN_TASK), of_ours))),
        prose("The serializers of the caller must be these; the other options are those of the workers."),
        table(("option", "value"), ((code(name), code(options[name])) for name in OPTIONS)),
    )


def _tasks() -> Iterator[tuple[str, str, str]]:
    """The tasks and their lines in the docstring of their module."""
    for name, text in TASK_LINE.findall(workers.tasks.__doc__ or ""):
        yield code(name), "callers" if name in CALLERS_TASKS else "Penstock", text.removeprefix("internal: ")


def _queues() -> Iterator[tuple[str, str, str]]:
    lanes = {lane.queue: lane for lane in Lane}
    lines = parse_procfile((source.ROOT / "Procfile").read_text(encoding="utf-8")).processes
    for queue in QUEUES:
        names = [line.name for line in lines if queue in _taken_by(line.command)]
        yield code(queue), lanes[queue] + (" (default)" if queue == DEFAULT_QUEUE else ""), codes(names)


def _taken_by(command: str) -> list[str]:
    """The queues after `-Q` in a worker's command."""
    words = shlex.split(command)
    return words[words.index("-Q") + 1].split(",") if "-Q" in words else []


def _schema() -> Schema:
    found: Schema = json.loads(BODY_SCHEMA.read_text(encoding="utf-8"))
    return found


def _properties() -> dict[str, Schema]:
    properties: dict[str, Schema] = _schema()["properties"]
    return properties


def _fields() -> Iterator[tuple[str, str, str]]:
    required = _schema()["required"]
    for name, part in _properties().items():
        constraints = ("required" if name in required else "", constraint_of(part))
        yield code(name), type_of(part), ", ".join(filter(None, constraints))
