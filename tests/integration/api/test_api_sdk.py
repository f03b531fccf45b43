"""The official SDK against the running door: nothing but its base_url and its key differ from OpenAI's."""

import json
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Batch
from openai.types.chat import ChatCompletionMessageParam

from cli.client.address import Address
from cli.client.http import ApiClient
from schemas.errors import PenstockError
from tests.integration.api.conftest import ADMIN, Premises
from tests.support.web_process import eventually

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}, "additionalProperties": False}


def says(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(premises: Premises) -> Iterator[OpenAI]:
    with OpenAI(base_url=premises.base_url, api_key=ADMIN) as client:
        yield client


@pytest.fixture
async def async_client(premises: Premises) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=premises.base_url, api_key=ADMIN) as client:
        yield client


@pytest.fixture
def native(premises: Premises) -> ApiClient:
    return ApiClient(Address(url=premises.api.url, key=ADMIN))


def lines_of(*bodies: dict[str, object]) -> bytes:
    url = "/v1/chat/completions"
    return b"\n".join(
        json.dumps({"custom_id": f"c{n}", "method": "POST", "url": url, "body": body}).encode()
        for n, body in enumerate(bodies)
    )


def batch_of(client: OpenAI, content: bytes, window: str = "24h") -> Batch:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window=window,  # type: ignore[arg-type]  # we take more than OpenAI does
        metadata={"lane": "low"},
    )


def test_a_completion_is_the_provider_s_own(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="small", messages=says("[[answer:hello]]"))
    completion = raw.parse()

    assert completion.choices[0].message.content == "hello"
    assert completion.usage is not None
    assert raw.headers["x-request-id"].startswith("req_")


async def test_a_stream_brings_text_usage_and_its_end(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model="small", messages=says("[[answer:hello there]]"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello there"
    assert chunks[-1].usage is not None


async def test_a_validated_stream_is_the_same_text(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model="small", messages=says("[[answer:hello there]]"), stream=True, extra_body={"stream_validated": True}
    )

    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "hello there"


def test_a_streamed_reply_that_breaks_its_contract_raises_after_its_chunks(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="small",
        messages=says('[[answer:{"n": "one"}]]'),
        stream=True,
        extra_body={"output_contract": {"schema": SCHEMA}},
    )
    seen: list[object] = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(stream)

    assert seen
    assert caught.value.code == "contract_violation"


def test_a_reply_that_cannot_be_saved_is_unprocessable_and_asked_for_once(client: OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(
            model="small",
            messages=says("[[scenario:refusal]]"),
            extra_body={"output_contract": {"schema": SCHEMA}, "metadata": {"mine": "1"}},
        )

    assert caught.value.code == "refused"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_wrong_reply_is_asked_for_again_before_anybody_sees_it(client: OpenAI, native: ApiClient) -> None:
    completion = client.chat.completions.create(
        model="small",
        messages=says("[[scenario:wrong_type*1]] a number please"),
        response_format={"type": "json_schema", "json_schema": {"name": "number", "schema": SCHEMA, "strict": True}},
    )

    [job] = native.rows("jobs", at_most=1)
    attempts = native.get("jobs", str(job["id"]))["attempts"]
    assert isinstance(json.loads(completion.choices[0].message.content or "")["n"], int)
    assert [attempt["outcome"] for attempt in attempts] == ["invalid", "valid"]


def test_the_same_key_gives_the_same_completion_and_refuses_another_body(client: OpenAI) -> None:
    key = {"Idempotency-Key": "sdk-1"}
    first = client.chat.completions.create(model="small", messages=says("same"), extra_headers=key)
    again = client.chat.completions.create(model="small", messages=says("same"), extra_headers=key)
    with pytest.raises(openai.ConflictError) as caught:
        client.chat.completions.create(model="small", messages=says("other"), extra_headers=key)

    assert again.id == first.id
    assert caught.value.code == "idempotency_conflict"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_a_budget_that_is_spent_is_no_reason_to_retry(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="dear", messages=says("much"), max_completion_tokens=100_000)

    assert (caught.value.code, caught.value.type) == ("project_spend_limit_exceeded", "insufficient_quota")
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_the_sdk_s_error_classes_fit(client: OpenAI, native: ApiClient, premises: Premises) -> None:
    made = native.post("keys", body={"tenant_id": "acme", "scopes": ["submit"]})
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="small", messages=[])
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gone", messages=says("x"))
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="pk_wrong").models.list()
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key=str(made["key"]), default_headers={"x-penstock-tenant": "default"}).models.list()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="small", messages=says("[[scenario:hang]]"), extra_body={"deadline_seconds": 1}
        )
    assert caught.value.status_code == 504
    assert premises.api.is_alive


def test_models_and_aliases_are_listed(client: OpenAI) -> None:
    assert {"gpt-4.1-mini", "small"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("small").owned_by == "penstock"


def test_a_file_goes_in_and_out_and_away(client: OpenAI) -> None:
    content = b"x" * 2_500_000 + b"\n"
    file = client.files.create(
        file=("grün.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )

    assert client.files.wait_for_processing(file.id).status == "processed"
    assert (file.filename, file.bytes, file.expires_at) == ("grün.jsonl", len(content), file.created_at + 3600)
    assert client.files.content(file.id).read() == content
    assert file.id in [one.id for one in client.files.list(limit=1)]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_batch_is_read_followed_and_cancelled(client: OpenAI, native: ApiClient) -> None:
    body: dict[str, object] = {"model": "small", "messages": says("hi")}
    batch = batch_of(client, lines_of(body, body), window="90m")
    assert (batch.status, batch.metadata) == ("validating", {"lane": "low"})
    assert batch.expires_at is not None
    assert batch.expires_at - batch.created_at == 90 * 60

    started = eventually(lambda: client.batches.retrieve(batch.id), lambda now: now.status != "validating")
    summary = native.get("jobs", "summary", batch_id=batch.id)
    assert (started.status, summary["lanes"]) == ("in_progress", {"low": 2})

    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = eventually(lambda: client.batches.retrieve(batch.id), lambda now: now.status == "cancelled")
    assert ended.request_counts is not None
    assert (ended.request_counts.total, ended.request_counts.failed) == (2, 2)


def test_every_wrong_line_of_a_batch_is_named(client: OpenAI) -> None:
    body: dict[str, object] = {"model": "small", "messages": says("hi")}
    good = lines_of(body)
    wrong = [
        b"{broken",
        good,
        lines_of(body | {"model": "gone"}).replace(b"c0", b"c3"),
        lines_of(body | {"output_contract": {"schema": {"type": 1}}}).replace(b"c0", b"c4"),
        lines_of(body | {"user": "x" * 110_000}).replace(b"c0", b"c5"),
        good.replace(b"c0", b"c6").replace(b"/v1/chat/completions", b"/v1/embeddings"),
        good.replace(b"c0", b"c\\u0000"),
        b"[]",
    ]
    batch = batch_of(client, b"\n".join([good, *wrong]))
    failed = eventually(lambda: client.batches.retrieve(batch.id), lambda now: now.status != "validating")

    assert failed.status == "failed"
    assert failed.errors is not None
    assert [(error.line, error.code) for error in failed.errors.data or []] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "model_not_found"),
        (5, "invalid_request"),
        (6, "line_too_long"),
        (7, "invalid_url"),
        (8, "missing_required_parameter"),
        (9, "invalid_json_line"),
    ]


@pytest.mark.parametrize("content", [b"\n", b"\n\n  \n"])
def test_a_file_without_requests_fails_its_batch(client: OpenAI, content: bytes) -> None:
    batch = batch_of(client, content)
    failed = eventually(lambda: client.batches.retrieve(batch.id), lambda now: now.status != "validating")

    assert failed.errors is not None
    assert [error.code for error in failed.errors.data or []] == ["empty_file"]


@pytest.mark.parametrize(
    ("changed", "param"),
    [({"endpoint": "/v1/embeddings"}, "endpoint"), ({"completion_window": "1w"}, "completion_window")],
)
def test_terms_that_no_batch_can_have_are_refused_at_once(client: OpenAI, changed: dict[str, str], param: str) -> None:
    file = client.files.create(file=("in.jsonl", b"x"), purpose="batch")
    wanted = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(**(wanted | changed))  # type: ignore[arg-type]  # wrong on purpose

    assert caught.value.param == param


def test_a_listing_of_batches_ends(client: OpenAI) -> None:
    made = {batch_of(client, b"x").id for _ in range(3)}

    assert made <= {batch.id for batch in client.batches.list(limit=2)}


@pytest.mark.parametrize("streamed", [False, True])
def test_the_job_of_a_client_that_goes_away_is_cancelled(
    premises: Premises,
    native: ApiClient,
    streamed: bool,  # noqa: FBT001 - a parameter
) -> None:
    user = f"gone-{streamed}"
    with (
        OpenAI(base_url=premises.base_url, api_key=ADMIN, timeout=0.5, max_retries=0) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.chat.completions.create(
            model="small", messages=says(f"[[scenario:hang]] {user}"), user=user, stream=streamed
        )

    [job] = native.rows("jobs", lane="critical", at_most=1)
    ended = eventually(lambda: native.get("jobs", str(job["id"])), lambda now: now["state"] != "running")
    assert (ended["state"], ended["request"]["user"]) == ("cancelled", user)


def test_an_unreachable_provider_is_told_without_its_address(client: OpenAI, premises: Premises) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=0).chat.completions.create(
            model="small", messages=says("[[scenario:500]]"), extra_body={"deadline_seconds": 5}
        )

    assert str(premises.provider.port) not in str(caught.value.body)
    with pytest.raises(PenstockError):
        ApiClient(Address(url=premises.api.url, key="pk_wrong")).get("limits")
