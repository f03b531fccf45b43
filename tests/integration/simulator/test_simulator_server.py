import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from jsonschema import Draft202012Validator
from openai import AsyncOpenAI

from simulator.scripted import directive
from tests.support.simulator_process import SimulatorProcess

MODEL = "gpt-4.1-mini"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
        "note": {"type": ["string", "null"]},
    },
    "required": ["title", "tags", "score", "note"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "review", "strict": True, "schema": SCHEMA}}


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start() as running:
        yield running


@pytest.fixture
async def client(provider: SimulatorProcess) -> AsyncIterator[AsyncOpenAI]:
    provider.reset_meter()
    provider.set_scenarios({})
    async with AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0, timeout=5) as client:
        yield client


def user(text: str = "Review this.") -> list[Any]:
    return [{"role": "user", "content": text}]


async def until(reached: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 5
    while not reached():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.01)


async def ask(client: AsyncOpenAI, text: str = "Review this.", **more: Any) -> Any:  # noqa: ANN401 - plain or stream, any argument
    return await client.chat.completions.create(model=MODEL, messages=user(text), **more)


async def test_a_plain_call_carries_answer_usage_and_headers(client: AsyncOpenAI, provider: SimulatorProcess) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=user(), max_completion_tokens=50, extra_headers={"x-client-request-id": "attempt-1"}
    )
    reply = raw.parse()

    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert raw.headers["x-ratelimit-limit-requests"] == "30000"
    assert int(raw.headers["x-ratelimit-remaining-requests"]) == 29_999
    assert raw.headers["x-ratelimit-reset-requests"] == "2ms"
    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["openai-processing-ms"]) >= 0
    bill = provider.bills()["attempt-1"]
    assert bill["nano_usd"] == reply.usage.prompt_tokens * 400 + reply.usage.completion_tokens * 1600
    assert provider.meter()["bill_nano_usd"] == bill["nano_usd"]


async def test_an_answer_keeps_to_the_schema(client: AsyncOpenAI) -> None:
    replies = await asyncio.gather(*(ask(client, f"Review {number}", response_format=FORMAT) for number in range(30)))

    for reply in replies:
        Draft202012Validator(SCHEMA).validate(json.loads(reply.choices[0].message.content))


async def test_a_stream_brings_the_same_shape_and_its_usage_last(client: AsyncOpenAI) -> None:
    stream = await ask(client, stream=True, stream_options={"include_usage": True}, response_format=FORMAT)
    chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("scenario", "error", "code"),
    [
        ("throttle", openai.RateLimitError, "rate_limit_exceeded"),
        ("slow_down", openai.RateLimitError, "slow_down"),
        ("money", openai.RateLimitError, "insufficient_quota"),
        ("500", openai.InternalServerError, None),
        ("503", openai.InternalServerError, "server_is_overloaded"),
        ("unauthorized", openai.AuthenticationError, "invalid_api_key"),
        ("model_not_found", openai.NotFoundError, "model_not_found"),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
    ],
)
async def test_a_refusing_scenario_is_not_billed(
    client: AsyncOpenAI, provider: SimulatorProcess, scenario: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(error) as raised:
        await ask(client, f"Hello [[scenario:{scenario}]]")

    assert raised.value.code == code
    assert raised.value.request_id
    assert provider.meter()["billed"] == 0
    assert provider.meter()["refused"] == {scenario: 1}


@pytest.mark.parametrize(("scenario", "billed"), [("reset_before", 0), ("reset_after", 1), ("cut", 1)])
async def test_a_broken_connection_is_billed_or_not_as_named(
    client: AsyncOpenAI, provider: SimulatorProcess, scenario: str, billed: int
) -> None:
    with pytest.raises(openai.APIConnectionError):
        await ask(client, extra_headers={"x-simulator-scenario": scenario})

    assert provider.meter()["billed"] == billed
    assert provider.meter()["answered"] == 0


@pytest.mark.parametrize("scenario", ["hang", "stalled"])
@pytest.mark.parametrize("how", ["plain", "streamed"])
async def test_silence_is_billed_and_ends_when_the_client_gives_up(
    client: AsyncOpenAI, provider: SimulatorProcess, scenario: str, how: str
) -> None:
    async def read_all() -> None:
        async for _ in await ask(client, f"[[scenario:{scenario}]]", stream=how == "streamed", timeout=0.3):
            pass

    with pytest.raises((openai.APITimeoutError, httpx2.TimeoutException)):
        await read_all()

    assert provider.meter()["billed"] == 1
    await until(lambda: provider.meter()["concurrent"] == 0)


async def test_a_cut_stream_ends_without_its_last_words(client: AsyncOpenAI, provider: SimulatorProcess) -> None:
    stream = await ask(client, "[[scenario:cut]]", stream=True)

    reasons = [chunk.choices[0].finish_reason async for chunk in stream]

    assert reasons
    assert set(reasons) == {None}
    assert provider.meter()["billed"] == 1


async def test_an_error_in_the_stream_comes_after_text(client: AsyncOpenAI) -> None:
    stream, chunks = await ask(client, "[[scenario:stream_error]]", stream=True), []

    async def read_all() -> None:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - what came before the error is wanted

    with pytest.raises(openai.APIError):
        await read_all()

    assert chunks


async def test_content_scenarios_spoil_the_answer_as_named(client: AsyncOpenAI) -> None:
    async def content(scenario: str) -> Any:  # noqa: ANN401 - a choice
        return (await ask(client, f"Review [[scenario:{scenario}]]", response_format=FORMAT)).choices[0]

    assert (await content("fenced")).message.content.startswith("```json\n{")
    assert (await content("commentary")).message.content.startswith("Sure")
    assert (await content("truncation")).finish_reason == "length"
    assert (await content("content_filter")).finish_reason == "content_filter"
    assert (await content("refusal")).message.refusal
    for scenario in ("malformed_json", "prose", "truncation"):
        with pytest.raises(json.JSONDecodeError):
            json.loads((await content(scenario)).message.content)
    for scenario in ("wrong_type", "missing_field"):
        instance = json.loads((await content(scenario)).message.content)
        assert not Draft202012Validator(SCHEMA).is_valid(instance)


async def test_shares_change_at_run_time(client: AsyncOpenAI, provider: SimulatorProcess) -> None:
    provider.set_scenarios({"money": 1.0})
    with pytest.raises(openai.RateLimitError):
        await ask(client)

    provider.set_scenarios({})
    assert await ask(client)
    with pytest.raises(ValueError, match="nonsense"):
        provider.set_scenarios({"nonsense": 0.5})


async def test_the_same_id_billed_twice_is_seen(client: AsyncOpenAI, provider: SimulatorProcess) -> None:
    for _ in range(2):
        await ask(client, extra_headers={"x-client-request-id": "twice"}, metadata={"job_id": "j"}, store=True)
    await ask(client, extra_headers={"x-client-request-id": "once"})

    meter = provider.meter()
    assert meter["billed_twice"]["client_request_ids"] == 1
    assert meter["billed_twice"]["job_ids"] == 1
    assert provider.hits() == {"twice": 2, "once": 1}
    assert meter["hits_per_client_request_id"] == {"1": 1, "2": 1}


async def test_an_answer_that_never_arrived_can_be_looked_up(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        await ask(client, "[[scenario:reset_after]]", store=True, metadata={"attempt": "lost-1"})
    for number in range(3):
        await ask(client, f"{number}", store=True, metadata={"attempt": "kept"})

    found = [reply async for reply in client.chat.completions.list(metadata={"attempt": "lost-1"})]
    paged = [reply async for reply in client.chat.completions.list(metadata={"attempt": "kept"}, limit=2)]

    assert len(found) == 1
    assert found[0].choices[0].message.content
    assert len(paged) == 3
    assert (await client.chat.completions.retrieve(found[0].id)).id == found[0].id
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.retrieve("chatcmpl-none")


async def test_draws_repeat_from_run_to_run() -> None:
    async def fates() -> list[str]:
        with SimulatorProcess.start(seed=7, scenarios={"throttle": 0.2, "500": 0.2}) as provider:
            async with AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0) as client:
                asked = (ask(client, f"{number}") for number in range(40))
                return [type(one).__name__ for one in await asyncio.gather(*asked, return_exceptions=True)]

    first = await fates()

    assert first == await fates()
    assert {"ChatCompletion", "RateLimitError", "InternalServerError"} == set(first)


async def test_a_long_prompt_is_taken(client: AsyncOpenAI) -> None:
    emptied = "gpt-4.1"  # the bucket of the model that the other tests ask stays full
    reply = await client.chat.completions.create(model=emptied, messages=user("long " * 500_000))

    assert reply.usage.prompt_tokens > 500_000


async def test_models_and_embeddings_are_served(client: AsyncOpenAI) -> None:
    models = (await client.models.list()).data
    assert MODEL in {model.id for model in models}
    assert all("shutdown_date" in model.model_dump() for model in models)
    assert (await client.models.retrieve(MODEL)).owned_by == "simulator"

    reply = await client.embeddings.create(model="text-embedding-3-small", input=["one text", "another"])
    again = await client.embeddings.create(
        model="text-embedding-3-small", input="one text", encoding_format="float", dimensions=256
    )
    assert [len(item.embedding) for item in reply.data] == [1536, 1536]
    assert len(again.data[0].embedding) == 256


async def test_limits_hold_and_tell_the_truth() -> None:
    with SimulatorProcess.start(requests_per_minute=600, tokens_per_minute=60_000) as provider:
        client = AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0)
        async with client:
            done = await asyncio.gather(*(ask(client, f"{number}") for number in range(30)), return_exceptions=True)
            refused = [one for one in done if isinstance(one, openai.RateLimitError)]
            with pytest.raises(openai.RateLimitError, match=r"Request too large .* Limit 60000, Requested 7\d{4}"):
                await ask(client, max_completion_tokens=70_000)
            meter = provider.meter()

    assert 10 <= 30 - len(refused) <= 14
    assert meter["accepted"] == 30 - len(refused)
    assert meter["refused"] == {"requests": len(refused), "too_large": 1}
    assert int(refused[0].response.headers["retry-after-ms"]) > 0
    assert refused[0].response.headers["x-ratelimit-limit-requests"] == "600"
    assert "Limit 600, Used" in refused[0].message


async def test_only_the_given_key_is_accepted() -> None:
    with SimulatorProcess.start("--key", "right") as provider:
        async with AsyncOpenAI(base_url=provider.base_url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as raised:
                await ask(client)
            assert raised.value.code == "invalid_api_key"
            assert await ask(client.with_options(api_key="right"))


async def test_an_instant_provider_still_meters(tmp_path: Path) -> None:
    with SimulatorProcess.start("--port-file", str(tmp_path / "port"), instant=True) as provider:
        async with AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0) as client:
            reply = await ask(client, extra_headers={"x-client-request-id": "one"})
            meter = provider.meter()
            assert reply.choices[0].message.content
            assert provider.bills()["one"]["nano_usd"] == meter["bill_nano_usd"] > 0
            structured = await ask(client, response_format=FORMAT)
            Draft202012Validator(SCHEMA).validate(json.loads(structured.choices[0].message.content))
        assert (tmp_path / "port").read_text() == f"{provider.port}\n"


async def test_a_signal_ends_it_at_once_even_while_calls_hang() -> None:
    provider = SimulatorProcess.start()
    async with AsyncOpenAI(base_url=provider.base_url, api_key="any", max_retries=0) as client:
        hanging = asyncio.create_task(ask(client, "[[scenario:hang]]"))
        await until(lambda: provider.meter()["billed"] == 1)
        began_at = time.monotonic()
        said = provider.complaints()
        code = await asyncio.to_thread(provider.stop)

        assert code == 0
        assert not said
        assert time.monotonic() - began_at < 2
        with pytest.raises(openai.APIConnectionError):
            await hanging


async def test_a_script_in_the_prompt_dictates_the_body_and_is_counted(
    client: AsyncOpenAI, provider: SimulatorProcess
) -> None:
    odd = directive(id="a-1", content="half \ud83d", usage={"prompt_tokens": 10**18, "completion_tokens": 1})

    answer = await ask(client, odd)

    assert answer.choices[0].message.content == "half \ud83d"
    assert answer.usage.prompt_tokens == 10**18
    assert provider.ask("GET", "/meter/scripts") == {"a-1": 1}
    assert provider.meter()["input_tokens"] < 10**6, "what is billed is what was used"
    assert [bill["usage_told"] for bill in provider.bills().values()] == [False]


async def test_a_scripted_error_comes_with_its_status_and_is_not_billed(
    client: AsyncOpenAI, provider: SimulatorProcess
) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        await ask(client, directive(id="a-2", status=403, body="<html>blocked</html>"))

    assert provider.ask("GET", "/meter/scripts") == {"a-2": 1}
    assert provider.meter()["billed"] == 0


async def test_a_scripted_text_is_streamed_like_any_other(client: AsyncOpenAI) -> None:
    stream = await ask(client, directive(content="one \ud83d two"), stream=True)

    assert "".join([event.choices[0].delta.content or "" async for event in stream]) == "one \ud83d two"
