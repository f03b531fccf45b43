"""Every kind of wrong line gets an error that names it, and a right one becomes a job."""

from datetime import UTC, datetime

import orjson
import pytest

from schemas.batch import BatchTerms, RestedJob
from schemas.errors import UnknownModel
from schemas.ids import BatchId, JobId, TenantId
from schemas.job import CHAT_COMPLETIONS, NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.states import JobState
from tasks.batches.lines import LineError, LineReader, output_line

TERMS = BatchTerms(
    id=BatchId("batch_1"),
    tenant_id=TenantId("default"),
    endpoint=CHAT_COMPLETIONS,
    lane=Lane.LOW,
    window_seconds=60,
)


class Words:
    def chain(self, model: str) -> object:
        if model != "small":
            raise UnknownModel(f"The model {model!r} is not configured.", param="model")
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return "type is wrong" if schema.get("type") == "wrong" else None


def reader() -> LineReader:
    return LineReader(TERMS, Words(), now=datetime(2026, 1, 1, tzinfo=UTC), new_job_id=lambda: JobId("job_1"))


def entry(**changes: object) -> bytes:
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    return orjson.dumps({"custom_id": "a", "method": "POST", "url": CHAT_COMPLETIONS, "body": body} | changes)


def body(**changes: object) -> JsonObject:
    return {"model": "small", "messages": [{"role": "user", "content": "hi"}]} | changes


def test_a_good_line_becomes_a_job_with_the_terms_of_its_batch() -> None:
    job = reader().read(1, entry())

    assert isinstance(job, NewJob)
    assert (job.lane, job.custom_id, job.idempotency_key) == (Lane.LOW, "a", "batch_1/a")


def test_an_empty_line_is_neither_a_request_nor_an_error() -> None:
    assert reader().read(7, b" \t") is None


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (entry(custom_id=7), "missing_required_parameter", "custom_id"),
        (entry(url="/v1/embeddings"), "invalid_url", "url"),
        (entry(method="GET"), "invalid_method", "method"),
        (entry(body=body(model="gone")), "model_not_found", "model"),
        (entry(body=body(messages=[])), "invalid_request", "messages"),
        (entry(body=body(lane="express")), "invalid_request", "lane"),
        (entry(body=body(output_contract={"schema": {"type": "wrong"}})), "invalid_request", "output_contract"),
        (entry(body=None), "invalid_request", None),
    ],
)
def test_a_wrong_line_is_named_with_its_cause(line: bytes, code: str, param: str | None) -> None:
    error = reader().read(7, line)

    assert isinstance(error, LineError)
    assert (error.code, error.param, error.line) == (code, param, 7)


def test_a_custom_id_may_stand_on_one_line_only() -> None:
    lines = reader()
    lines.read(1, entry())

    error = lines.read(2, entry())

    assert isinstance(error, LineError)
    assert error.code == "duplicate_custom_id"


def test_extras_never_reach_the_body() -> None:
    job = reader().read(1, entry(body=body(lane="high", metadata={"deadline_seconds": "5", "mine": "x"})))

    assert isinstance(job, NewJob)
    assert job.lane is Lane.HIGH
    assert job.body["metadata"] == {"mine": "x"}
    assert "lane" not in job.body


@pytest.mark.parametrize(
    ("state", "code"),
    [(JobState.EXPIRED, "batch_expired"), (JobState.CANCELLED, "batch_cancelled"), (JobState.DEAD, "refused")],
)
def test_what_did_not_complete_says_why(state: JobState, code: str) -> None:
    line = orjson.loads(
        output_line(RestedJob(job_id=JobId("job_1"), custom_id="a", state=state, reply=None, dead_reason="refused"))
    )

    assert line["response"] is None
    assert line["error"]["code"] == code
