"""A quote is what admission would reserve, line by line; bad files are refused with the numbers of their lines."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
import pytest

from admission.limits import DimensionSnapshot, LimitsSnapshot
from schemas.errors import InvalidRequest
from schemas.ids import FileId, TenantId
from schemas.job import CHAT_COMPLETIONS, Job, Target
from schemas.jsons import JsonObject
from schemas.money import UNKNOWN_PRICE, NanoUsd, Price, Quote, Usage
from schemas.plan import Plan
from tasks.quotes.quote import Quoted, Quotes

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TENANT = TenantId("default")
CHEAP, DEAR = Target(account="a", model="cheap"), Target(account="a", model="dear")
PRICES = {
    CHEAP: Price(input_nano_usd=10**9, cached_input_nano_usd=10**9, output_nano_usd=4 * 10**9, source="here"),
    DEAR: Price(input_nano_usd=10**10, cached_input_nano_usd=10**10, output_nano_usd=4 * 10**10, source="here"),
}
NO_LIMIT = DimensionSnapshot(configured=None, learned=None, effective=None, level=None)


class TwoModels:
    def chain(self, model: str) -> tuple[Target, ...]:
        return {"both": (CHEAP, DEAR), "free": (Target(account="b", model="free"),)}.get(model, (CHEAP,))

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        price = PRICES.get(target, UNKNOWN_PRICE)
        cost = price.cost(Usage(input_tokens=1_000, output_tokens=100))
        quote = Quote(input_tokens=1_000, output_tokens=100, cost_nano_usd=cost, likely_input_tokens=200)
        return Plan(target=target, body=body, price=price, quote=quote)


@dataclass
class World:
    """Lines of one file, the limits of a bucket, the lengths of answers."""

    file: tuple[bytes, ...] = ()
    limits: dict[str, DimensionSnapshot] = field(default_factory=dict)
    lengths: dict[Target, float] = field(default_factory=dict)

    async def lines(self, file_id: FileId, *, most_bytes: int) -> AsyncIterator[bytes]:
        for line in self.file:
            yield line[: most_bytes + 1]

    async def snapshot(self, target: Target) -> LimitsSnapshot | None:
        names = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")
        return LimitsSnapshot(
            target=target,
            version=1,
            **{name: self.limits.get(name, NO_LIMIT) for name in names},
            used_requests_last_minute=0,
            used_tokens_last_minute=0,
            in_flight=0,
            max_in_flight=None,
            ticket_ms={},
            frozen_ms=0,
            stopped=None,
            rate_factor=1.0,
            refund_share=0.0,
        )

    async def answer_tokens(self) -> Mapping[Target, float]:
        return self.lengths


def line(number: int, model: str = "one", **more: object) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | more
    return orjson.dumps({"custom_id": f"c{number}", "method": "POST", "url": CHAT_COMPLETIONS, "body": body})


async def quoted(world: World, most_bytes: int = 10_000) -> Quoted:
    models = TwoModels()
    quotes = Quotes(
        planner=models,
        files=world,
        limits=world,
        answer_tokens=world.answer_tokens,
        vocabulary=models,
        now=lambda: NOW,
        most_bytes=most_bytes,
    )
    return await quotes.file(TENANT, FileId("file_1"))


async def test_the_range_is_from_the_usual_answer_to_all_tries_at_the_dearest() -> None:
    found = (await quoted(World(file=(line(1), line(2, "both")), lengths={CHEAP: 25.0}))).totals

    assert (found.requests, found.unpriced) == (2, 0)
    assert (found.likely_input_tokens, found.likely_output_tokens) == (400, 50)
    assert (found.most_input_tokens, found.most_output_tokens) == (2_000, 200)
    assert found.likely_nano_usd == 2 * (200 + 25 * 4) * 1_000
    assert found.one_call_nano_usd == (1_000 + 400) * 1_000 * 11
    assert found.worst_case_nano_usd > 5 * found.one_call_nano_usd


async def test_a_model_that_nobody_has_asked_is_taken_to_answer_at_full_length() -> None:
    assert (await quoted(World(file=(line(1),)))).totals.likely_output_tokens == 100


async def test_what_has_no_known_price_is_counted_and_not_called_free() -> None:
    found = (await quoted(World(file=(line(1, "free"), line(2))))).totals

    assert (found.requests, found.unpriced, found.one_call_nano_usd) == (2, 1, 1_400_000)


async def test_a_jobs_own_ceiling_bounds_its_worst_case() -> None:
    found = (await quoted(World(file=(line(1, max_cost_usd="0.000000001"),)))).totals

    assert found.worst_case_nano_usd == NanoUsd(1 + 2 * 1_400_000)


async def test_the_limit_that_takes_longest_says_how_long() -> None:
    def limit(value: float, level: float = 1.0) -> DimensionSnapshot:
        return DimensionSnapshot(configured=value, learned=None, effective=value, level=level)

    file = tuple(line(number) for number in range(10))

    by_tokens = await quoted(World(file, {"requests_per_minute": limit(60), "tokens_per_minute": limit(600)}))
    by_day = await quoted(World(file, {"requests_per_day": limit(8, level=0.5)}))
    unlimited = await quoted(World(file))

    assert (by_tokens.seconds, by_tokens.held_by) == (300.0, "tokens_per_minute")
    assert (by_day.seconds, by_day.held_by) == (0.75 * 86_400, "requests_per_day")
    assert (unlimited.seconds, unlimited.held_by) == (None, None)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ((line(1), b"{broken", line(2), b"[]"), "line 2: .* Also wrong: 4"),
        ((line(1), line(1)), "line 2: .*more than one line"),
        ((line(1), line(2, content="x" * 20_000)), "line 2: A line may have at most"),
        ((line(1, max_cost_usd="-1"),), "line 1: max_cost_usd"),
        ((), "holds no requests"),
    ],
)
async def test_a_bad_file_is_refused_with_the_numbers_of_its_lines(file: tuple[bytes, ...], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as caught:
        await quoted(World(file=file))

    assert caught.value.param == "input_file_id"
