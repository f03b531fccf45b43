"""P6: the official OpenAI SDK works unchanged; only base URL and key are ours."""

import json
from pathlib import Path

import openai
import pytest

from stack.children import wait_until
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import StackProcess

BATCH_SECONDS = 30.0
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["kind", "size"],
    "additionalProperties": False,
}


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def batch_line(custom_id: str, text: str) -> str:
    answer = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    body = {"model": "small", "messages": asked(text), "response_format": answer}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})


def run_batch(client: openai.OpenAI, lines: list[str], folder: Path) -> openai.types.Batch:
    path = folder / "batch.jsonl"
    path.write_text("\n".join(lines))
    uploaded = client.files.create(file=path, purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    ended = {"completed", "failed", "expired", "cancelled"}
    assert wait_until(lambda: client.batches.retrieve(batch.id).status in ended, seconds=BATCH_SECONDS)
    return client.batches.retrieve(batch.id)


def test_a_chat_is_answered(stack: StackProcess, provider: SimulatorProcess) -> None:
    with stack.openai() as client:
        raw = client.chat.completions.with_raw_response.create(model="small", messages=asked("hello"))

    reply = raw.parse()
    assert reply.choices[0].message.content
    assert reply.usage is not None
    assert raw.headers["x-request-id"].startswith("req_")
    assert provider.meter()["accepted"] == 1


def test_a_streamed_chat_is_answered_word_by_word(stack: StackProcess) -> None:
    with stack.openai() as client:
        chunks = list(
            client.chat.completions.create(
                model="small", messages=asked("hello"), stream=True, stream_options={"include_usage": True}
            )
        )

    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 1
    assert chunks[-1].usage is not None
    assert any(chunk.choices and chunk.choices[0].finish_reason == "stop" for chunk in chunks)


def test_a_structured_answer_is_parsed_by_the_sdk(stack: StackProcess, provider: SimulatorProcess) -> None:
    provider.set_scenarios({"fenced": 1.0})

    with stack.openai() as client:
        reply = client.chat.completions.create(
            model="small",
            messages=asked("a turbine, please"),
            response_format={"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}},
        )

    assert set(json.loads(reply.choices[0].message.content or "")) == {"kind", "size"}


def test_models_and_aliases_are_listed(stack: StackProcess) -> None:
    with stack.openai() as client:
        assert {"small", "large", "gpt-4.1-mini"} <= {model.id for model in client.models.list()}
        assert client.models.retrieve("small").owned_by == "penstock"


def test_a_batch_goes_from_its_file_to_its_results(stack: StackProcess, tmp_path: Path) -> None:
    with stack.openai() as client:
        batch = run_batch(client, [batch_line(f"line-{number}", f"turbine {number}") for number in range(40)], tmp_path)
        results = [json.loads(line) for line in client.files.content(batch.output_file_id or "").text.splitlines()]
        listed = [found.id for found in client.batches.list(limit=1)]

    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (40, 40, 0)
    assert {result["custom_id"] for result in results} == {f"line-{number}" for number in range(40)}
    assert all(result["response"]["status_code"] == 200 for result in results)
    assert batch.id in listed


def test_a_file_with_a_wrong_line_is_refused_whole(
    stack: StackProcess, provider: SimulatorProcess, tmp_path: Path
) -> None:
    lines = [batch_line("same", "a"), "{broken", batch_line("same", "b"), batch_line("x", "c").replace("small", "none")]

    with stack.openai() as client:
        batch = run_batch(client, lines, tmp_path)

    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.line, error.code) for error in batch.errors.data or []] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "model_not_found"),
    ]
    assert provider.meter()["accepted"] == 0


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"model": "no-such-model"}, openai.NotFoundError),
        ({"messages": []}, openai.BadRequestError),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 7}}}},
            openai.BadRequestError,
        ),
        ({"extra_body": {"lane": "express"}}, openai.BadRequestError),
    ],
)
def test_a_wrong_request_raises_the_error_class_that_callers_know(
    stack: StackProcess, wrong: dict[str, object], error: type[openai.APIStatusError]
) -> None:
    request = {"model": "small", "messages": asked("hello")} | wrong

    with stack.openai() as client, pytest.raises(error) as raised:
        client.chat.completions.create(**request)  # type: ignore[call-overload]  # wrong on purpose

    assert raised.value.code
    assert raised.value.request_id


def test_a_key_that_nobody_made_opens_nothing(stack: StackProcess) -> None:
    with stack.openai(api_key="pk_wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_key_of_another_tenant_sees_nothing_of_ours(stack: StackProcess) -> None:
    created = stack.api.post("keys", body={"tenant_id": "stranger", "scopes": ["submit"]})
    with stack.openai() as ours:
        uploaded = ours.files.create(file=("a.jsonl", b"{}"), purpose="batch")

    with stack.openai(api_key=str(created["key"])) as theirs:
        with pytest.raises(openai.NotFoundError):
            theirs.files.retrieve(uploaded.id)
        with pytest.raises(openai.NotFoundError):
            theirs.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    stack.api.delete("keys", str(created["id"]))


def test_an_output_that_stays_wrong_is_an_error_and_a_dead_letter(
    stack: StackProcess, provider: SimulatorProcess
) -> None:
    provider.set_scenarios({"wrong_type": 1.0})

    with stack.openai() as client, pytest.raises(openai.UnprocessableEntityError) as raised:
        client.chat.completions.create(
            model="small",
            messages=asked("never right"),
            response_format={"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}},
        )

    assert raised.value.code == "invalid_output"
    assert provider.meter()["accepted"] == 3  # the first ask and two reprompts; the SDK does not ask again
