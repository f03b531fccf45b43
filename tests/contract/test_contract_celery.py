"""What callers of the Celery door, and messages under way at a deployment, rely on. A failure breaks somebody else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from config.broker import QUEUES
from schemas.errors import InvalidRequest
from schemas.ids import DEFAULT_TENANT, JobId
from schemas.job import Published
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from tasks.dispatch.publisher import RUN_TASK, message, parse_message
from tasks.intake.celery_messages import CallerMessage, job_from_message
from tasks.requests.chat import EXTRAS, MAX_DEADLINE_SECONDS, MAX_KEY_CHARACTERS, MAX_MESSAGES, MAX_PROMPT_CHARACTERS
from workers.tasks import COMPLETE_TASK, SUBMIT_TASK

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract"
HELLO: JsonObject = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


class AnyModel:
    def chain(self, model: str) -> object:
        return model

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None


def schema(name: str) -> JsonObject:
    found: JsonObject = json.loads((CONTRACT / f"completions.{name}.schema.json").read_text(encoding="utf-8"))
    return found


def test_task_names_and_queues_are_frozen() -> None:
    assert (RUN_TASK, SUBMIT_TASK, COMPLETE_TASK) == (
        "completions.run",
        "completions.submit",
        "completions.complete",
    )
    assert list(QUEUES) == [
        "completions.critical",
        "completions.high",
        "completions.normal",
        "completions.low",
    ]
    assert list(QUEUES) == [lane.queue for lane in Lane]


def test_the_run_message_is_frozen() -> None:
    jobs = [Published(job_id=JobId("job_1"), generation=0), Published(job_id=JobId("job_2"), generation=7)]

    assert message(jobs) == {"v": 1, "jobs": [["job_1", 0], ["job_2", 7]]}
    assert parse_message(message(jobs)) == jobs
    jsonschema.validate(message(jobs), schema("run"))


def test_the_body_schema_names_every_field_of_ours_and_its_bounds() -> None:
    properties = schema("body")["properties"]

    assert properties.keys() >= EXTRAS
    assert schema("body")["required"] == ["model", "messages"]
    assert properties["lane"]["enum"] == list(Lane)
    assert properties["messages"]["maxItems"] == MAX_MESSAGES
    assert properties["deadline_seconds"]["maximum"] == MAX_DEADLINE_SECONDS
    assert properties["idempotency_key"]["maxLength"] == MAX_KEY_CHARACTERS
    assert properties["prompt"]["maxLength"] == MAX_PROMPT_CHARACTERS


@pytest.mark.parametrize(
    "body",
    [
        HELLO,
        HELLO | {"temperature": 0.2, "lane": "low", "deadline_seconds": 60, "max_cost_usd": "0.01"},
        HELLO | {"output_contract": {"type": "object"}, "metadata": {"lane": "high"}, "user": "u1"},
        HELLO | {"idempotency_key": "k", "tenant": "default", "response_format": {"type": "json_object"}},
        [],
        "text",
        {"messages": HELLO["messages"]},
        HELLO | {"model": ""},
        HELLO | {"messages": []},
        HELLO | {"messages": [{"content": "no role"}]},
        HELLO | {"lane": "urgent"},
        HELLO | {"deadline_seconds": 0},
        HELLO | {"deadline_seconds": MAX_DEADLINE_SECONDS + 1},
        HELLO | {"idempotency_key": ""},
        HELLO | {"prompt": "describe-2"},
        HELLO | {"prompt": "p" * (MAX_PROMPT_CHARACTERS + 1)},
        HELLO | {"metadata": "text"},
    ],
)
def test_the_published_schema_and_the_door_agree(body: object) -> None:
    published = jsonschema.Draft202012Validator(schema("body")).is_valid(body)
    try:
        job_from_message(
            CallerMessage(body=body, task_id="t", queue=Lane.NORMAL.queue),
            AnyModel(),
            job_id=JobId("job_1"),
            now=datetime(2026, 1, 1, tzinfo=UTC),
            tenants=frozenset({DEFAULT_TENANT}),
            max_body_bytes=100_000,
        )
        accepted = True
    except InvalidRequest:
        accepted = False

    assert published is accepted
