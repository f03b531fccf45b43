"""Every fault of the simulated provider by name: what it becomes, and that one call was one request."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import count

import pytest

from config.catalogue import Catalogue
from config.settings import Settings
from providers.models import Models, open_models
from schemas.contract import OutputContract
from schemas.ids import DEFAULT_TENANT, AttemptId
from schemas.jsons import JsonObject
from schemas.money import UNKNOWN_PRICE
from schemas.outcome import Declined, Invalid, Judged, Truncated, Valid
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from schemas.storable import storable
from tests.support.fakes import a_job
from tests.support.simulator_process import SimulatorProcess

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["title", "count"],
    "additionalProperties": False,
}
CONTRACT = OutputContract(schema=SCHEMA)
KEY = "a-key-of-our-own"

REFUSED = {
    "throttle": TroubleKind.THROTTLE,
    "slow_down": TroubleKind.RAMP,
    "money": TroubleKind.MONEY,
    "unauthorized": TroubleKind.AUTH,
    "forbidden": TroubleKind.FORBIDDEN,
    "model_not_found": TroubleKind.MODEL_NOT_FOUND,
    "context_length": TroubleKind.TOO_LARGE,
    "500": TroubleKind.SERVER,
    "503": TroubleKind.SERVER,
    "reset_before": TroubleKind.AMBIGUOUS,
    "reset_after": TroubleKind.AMBIGUOUS,
    "hang": TroubleKind.AMBIGUOUS,
}
"""The same whether the call is streamed or not."""

PLAIN = {
    "cut": TroubleKind.AMBIGUOUS,
    "stalled": TroubleKind.AMBIGUOUS,
    "stream_error": TroubleKind.SERVER,
}
STREAMED = {"cut": TroubleKind.CUT, "stalled": TroubleKind.CUT, "stream_error": TroubleKind.CUT}

ANSWERED: dict[str, tuple[type[Judged], str | None]] = {
    "none": (Valid, "direct"),
    "fenced": (Valid, "fenced"),
    "commentary": (Valid, "embedded"),
    "malformed_json": (Valid, "repaired"),
    "prose": (Invalid, None),
    "wrong_type": (Invalid, None),
    "missing_field": (Invalid, None),
    "truncation": (Truncated, None),
    "refusal": (Declined, None),
    "content_filter": (Declined, None),
}

ODD, ODD_CALLS = "odd_reply", 21

numbers = count()


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start("--key", KEY) as running:
        yield running


@pytest.fixture
async def models(provider: SimulatorProcess) -> AsyncIterator[Models]:
    settings = Settings.model_construct(
        slots=8,
        connect_timeout_seconds=2,
        first_byte_timeout_seconds=1.5,
        between_chunks_timeout_seconds=0.5,
        total_timeout_seconds=10,
    )
    async with open_models(
        Catalogue(), settings, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url}
    ) as opened:
        yield opened


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.chunks: list[JsonObject] = []

    async def hear(self, chunk: JsonObject) -> None:
        self.chunks.append(chunk)

    @property
    def text(self) -> str:
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)


def planned(models: Models, scenario: str, **more: object) -> Plan:
    text = f"call {next(numbers)} [[scenario:{scenario}]]"
    body = {"model": "small", "messages": [{"role": "user", "content": text}], **more}
    job = a_job(contract=CONTRACT, body=body)
    return models.plan(job, models.chain("small")[0], job.body, datetime.now(UTC))


async def called(models: Models, provider: SimulatorProcess, plan: Plan, heard: Heard | None = None) -> Reply | Trouble:
    """Make a call and see that it was one request."""
    attempt_id = AttemptId(f"att_{next(numbers)}")
    answer = await models.call(plan, attempt_id, deadline_seconds=30, on_chunk=None if heard is None else heard.hear)
    assert provider.hits()[attempt_id] == 1
    return answer


def test_every_scenario_is_tried(provider: SimulatorProcess) -> None:
    known = set(provider.ask("GET", "/scenarios")["known"])

    assert known == (REFUSED.keys() | PLAIN.keys() | ANSWERED.keys() | {ODD}) - {"none"}


@pytest.mark.parametrize(("scenario", "kind"), [*REFUSED.items(), *PLAIN.items()])
async def test_trouble_without_a_stream(
    scenario: str, kind: TroubleKind, models: Models, provider: SimulatorProcess
) -> None:
    answer = await called(models, provider, planned(models, scenario))

    assert isinstance(answer, Trouble)
    assert answer.kind is kind
    assert answer.usage is None


@pytest.mark.parametrize(("scenario", "kind"), [*REFUSED.items(), *STREAMED.items()])
async def test_trouble_in_a_stream(
    scenario: str, kind: TroubleKind, models: Models, provider: SimulatorProcess
) -> None:
    answer = await called(models, provider, planned(models, scenario), Heard())

    assert isinstance(answer, Trouble)
    assert answer.kind is kind
    assert (answer.usage is not None) == (kind is TroubleKind.CUT)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("scenario", "expected"), ANSWERED.items())
async def test_answers_are_judged(
    scenario: str,
    expected: tuple[type[Judged], str | None],
    streamed: bool,  # noqa: FBT001 - a parameter of the table
    models: Models,
    provider: SimulatorProcess,
) -> None:
    answer = await called(models, provider, planned(models, scenario), Heard() if streamed else None)

    assert isinstance(answer, Reply)
    judged = await models.judge(answer, CONTRACT, DEFAULT_TENANT)
    assert isinstance(judged, expected[0])
    assert getattr(judged, "recovery", None) == expected[1]


async def test_odd_replies_are_judged_and_storable(models: Models, provider: SimulatorProcess) -> None:
    replies = [await called(models, provider, planned(models, ODD)) for _ in range(ODD_CALLS)]

    for reply in replies:
        assert isinstance(reply, Reply | Trouble)
        if isinstance(reply, Reply):
            assert isinstance(await models.judge(reply, CONTRACT, DEFAULT_TENANT), Valid | Invalid)
            assert storable(reply.body) is reply.body


async def test_a_throttle_says_how_long_to_wait(models: Models, provider: SimulatorProcess) -> None:
    answer = await called(models, provider, planned(models, "throttle"))

    assert isinstance(answer, Trouble)
    assert (answer.status, answer.code, answer.retry_after_ms) == (429, "rate_limit_exceeded", 1_000)
    assert answer.request_id


async def test_a_reply_carries_usage_limits_and_times(models: Models, provider: SimulatorProcess) -> None:
    plan = planned(models, "none")
    answer = await called(models, provider, plan)

    assert isinstance(answer, Reply)
    assert answer.usage is not None
    assert 0 < answer.usage.input_tokens <= plan.quote.input_tokens
    assert answer.usage.output_tokens <= plan.quote.output_tokens
    assert answer.limits.limit_tokens is not None
    assert answer.limits.remaining_requests is not None
    assert answer.request_id
    assert answer.first_byte_ms is not None
    assert answer.first_byte_ms <= answer.latency_ms
    assert (answer.model, answer.service_tier) == ("gpt-4.1-mini", "default")


async def test_the_bill_is_within_the_quote_and_equal_to_our_price(models: Models, provider: SimulatorProcess) -> None:
    provider.reset_meter()
    plan = planned(models, "none")

    answer = await called(models, provider, plan)

    assert isinstance(answer, Reply)
    assert answer.usage is not None
    assert plan.price != UNKNOWN_PRICE
    assert plan.price.cost(answer.usage) == provider.meter()["bill_nano_usd"] <= plan.quote.cost_nano_usd


async def test_a_stream_arrives_in_chunks_without_the_usage_not_asked_for(
    models: Models, provider: SimulatorProcess
) -> None:
    heard = Heard()

    answer = await called(models, provider, planned(models, "none"), heard)

    assert isinstance(answer, Reply)
    assert answer.usage is not None
    assert answer.body["object"] == "chat.completion"
    assert heard.text == answer.text
    assert len(heard.chunks) > 2
    assert not [chunk for chunk in heard.chunks if "usage" in chunk or not chunk["choices"]]


async def test_the_usage_chunk_is_heard_where_it_was_asked_for(models: Models, provider: SimulatorProcess) -> None:
    heard = Heard()
    plan = planned(models, "none", stream=True, stream_options={"include_usage": True})

    answer = await called(models, provider, plan, heard)

    assert isinstance(answer, Reply)
    assert heard.chunks[-1]["choices"] == []
    assert heard.chunks[-1]["usage"] == answer.body["usage"]


async def test_a_body_that_asks_for_a_stream_is_streamed_without_a_listener(
    models: Models, provider: SimulatorProcess
) -> None:
    answer = await called(models, provider, planned(models, "stalled", stream=True))

    assert isinstance(answer, Trouble)
    assert answer.kind is TroubleKind.CUT


async def test_a_cut_stream_keeps_its_text_and_is_counted_from_above(
    models: Models, provider: SimulatorProcess
) -> None:
    heard, plan = Heard(), planned(models, "cut")

    answer = await called(models, provider, plan, heard)

    assert isinstance(answer, Trouble)
    assert answer.partial_text == heard.text != ""
    assert answer.usage is not None
    assert answer.usage.input_tokens == plan.quote.input_tokens
    assert answer.usage.output_tokens == len(heard.text.encode())


@pytest.mark.parametrize("heard", [None, Heard()])
async def test_silence_is_noticed_without_a_chunk(
    heard: Heard | None, models: Models, provider: SimulatorProcess
) -> None:
    answer = await called(models, provider, planned(models, "stalled"), heard)

    assert isinstance(answer, Trouble)
    assert "Silence" in answer.message
    assert 500 <= answer.latency_ms < 5_000


async def test_no_time_out_outlives_the_deadline(models: Models) -> None:
    plan = planned(models, "hang")

    answer = await models.call(plan, AttemptId("att_deadline"), deadline_seconds=0.1, on_chunk=None)

    assert isinstance(answer, Trouble)
    assert answer.kind is TroubleKind.AMBIGUOUS
    assert 90 <= answer.latency_ms < 1_000


async def test_a_slow_listener_is_not_the_providers_silence(models: Models, provider: SimulatorProcess) -> None:
    """The first chunk is heard for longer than may pass between two."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()

    async def hear(chunk: JsonObject) -> None:
        if not heard.is_set():
            loop.call_later(0.8, heard.set)
            await heard.wait()

    answer = await models.call(planned(models, "none"), AttemptId("att_slow"), deadline_seconds=30, on_chunk=hear)

    assert isinstance(answer, Reply)
    assert answer.latency_ms >= 800


async def test_what_a_listener_raises_is_not_taken_for_the_providers(models: Models) -> None:
    class GoneError(ConnectionError):
        pass

    async def gone(chunk: JsonObject) -> None:
        raise GoneError

    with pytest.raises(GoneError):
        await models.call(planned(models, "none"), AttemptId("att_gone"), deadline_seconds=5, on_chunk=gone)
