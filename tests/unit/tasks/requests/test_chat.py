"""One rule of what can be stored, at every door: what is refused is named, what is taken keeps its digits."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.batch import BatchTerms
from schemas.errors import InvalidRequest
from schemas.ids import DEFAULT_TENANT, BatchId, JobId
from schemas.job import CHAT_COMPLETIONS, NewJob
from schemas.jsons import JsonObject, dumps, parse
from schemas.lanes import Lane
from tasks.batches.lines import LineError, LineReader
from tasks.dead_letters.export_format import Reader, letter_from
from tasks.intake.celery_messages import CallerMessage, job_from_message
from tasks.requests.chat import Origin, parse_chat_request
from tests.support.odd_json import nested

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = JobId("job_1")
BODY: JsonObject = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
TERMS = BatchTerms(
    id=BatchId("batch_1"),
    tenant_id=DEFAULT_TENANT,
    endpoint=CHAT_COMPLETIONS,
    lane=Lane.LOW,
    window_seconds=60,
)
LETTERS = Reader(
    tenant_id=None,
    default_tenant_id=DEFAULT_TENANT,
    tenants=frozenset({"default"}),
    schema_complaint=lambda _: None,
)


class Words:
    def chain(self, model: str) -> object:
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None


def over_http(raw: bytes) -> NewJob:
    origin = Origin(tenant_id=DEFAULT_TENANT, job_id=JOB, default_lane=Lane.NORMAL)
    return parse_chat_request(parse(raw), origin, Words(), NOW)


def in_a_batch(raw: bytes) -> NewJob:
    line = b'{"custom_id": "a", "url": "/v1/chat/completions", "body": %s}' % raw
    read = LineReader(TERMS, Words(), now=NOW, new_job_id=lambda: JOB).read(1, line)
    if isinstance(read, LineError):
        raise InvalidRequest(read.message, param=read.param)
    return read


def over_celery(raw: bytes) -> NewJob:
    message = CallerMessage(body=parse(raw), task_id="task-1", queue="completions.low")
    return job_from_message(
        message, Words(), job_id=JOB, now=NOW, tenants=frozenset({"default"}), max_body_bytes=1_000_000
    )


def imported(raw: bytes) -> NewJob:
    return letter_from(b'{"id": "job_1", "reason": "refused", "request": %s}' % raw, LETTERS, NOW).job


ENTRANCES = [over_http, in_a_batch, over_celery, imported]
Entrance = Callable[[bytes], NewJob]


def asked(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return dumps(BODY | changes)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(
    ("odd", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a\0"}]}]}, "messages[0].content[0].text"),
        ({"metadata": {"a": "\ud83d"}}, "metadata.a"),
        ({"k\0": 1}, "a key of the body"),
        ({"tools": nested(64, "a")}, "tools"),
        ({"tools": nested(250, None)}, "tools"),
        ({"model": "m" * 257}, "model"),
        ({"user": "u" * 257}, "user"),
        ({"prompt": "p" * 129}, "prompt"),
        ({"idempotency_key": "k" * 256}, "idempotency_key"),
        ({"max_cost_usd": "1e-999999999"}, "max_cost_usd"),
        ({"max_cost_usd": 10**30}, "max_cost_usd"),
        ({"deadline_seconds": 10**400}, "deadline_seconds"),
        ({"deadline_seconds": []}, "deadline_seconds"),
        ({"lane": []}, "lane"),
        ({"output_contract": '{"schema": {"title": "a\\u0000"}}'}, "output_contract.schema.title"),
        ({"output_contract": '{"schema": ' + "[" * 100 + "]" * 100 + "}"}, "output_contract"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_name(entrance: Entrance, odd: JsonObject, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        entrance(asked(**odd))

    assert refusal.value.param == param


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(
    "said",
    [
        b"18446744073709551617",
        b"-100000000000000000001",
        b"0.12345678901234567890123",
        b"1E+400",
        b"9223372036854775808",
    ],
)
def test_a_number_goes_to_the_provider_as_it_came(entrance: Entrance, said: bytes) -> None:
    job = entrance(asked()[:-1] + b',"seed":' + said + b"}")

    assert dumps(job.body["seed"]) == said


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("odd", [{"max_tokens": 2**63}, {"n": 10**30, "max_completion_tokens": 10**30}, {"user": 5}])
def test_what_the_provider_judges_is_taken(entrance: Entrance, odd: JsonObject) -> None:
    assert entrance(asked(**odd)).body.items() >= odd.items()


def test_requests_that_differ_in_one_digit_are_different() -> None:
    assert over_http(asked(seed=2**64 + 1)).request_digest != over_http(asked(seed=2**64 + 2)).request_digest


@pytest.mark.parametrize("tenant", [[], {}, 5, None, "nobody"])
def test_a_tenant_is_a_name(tenant: object) -> None:
    with pytest.raises(InvalidRequest, match="tenant"):
        over_celery(asked(tenant=tenant))


@pytest.mark.parametrize(
    "odd", [{"custom_id": "c" * 257}, {"user": "u" * 257}, {"endpoint": "e" * 257}, {"message": "m" * 4_001}]
)
def test_an_imported_name_fits_its_index(odd: JsonObject) -> None:
    line = {"id": "job_1", "reason": "refused", "request": BODY} | odd

    with pytest.raises(InvalidRequest, match=next(iter(odd))):
        letter_from(dumps(line), LETTERS, NOW)
