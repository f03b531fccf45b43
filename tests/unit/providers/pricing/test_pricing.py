"""Prices to the nano-dollar: the operator's first, the list by date and tier, and unknown is never zero."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from config.catalogue import PriceTable, TierPriceTable
from providers.pricing.price_list import SOURCE, listed_prices
from providers.pricing.pricing import OVERRIDE_SOURCE, Prices, Rates
from schemas.job import Target
from schemas.money import UNKNOWN_PRICE, Price, Usage, nano_from_usd

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LISTED = listed_prices({"openai": "http://127.0.0.1:9/v1", "eu": "https://api.openai.com/v1", "vllm": "http://h/v1"})


def target(model: str, account: str = "openai") -> Target:
    return Target(account=account, model=model)


def price(model: str, *, account: str = "openai", now: datetime = NOW, tier: str = "", input_tokens: int = 0) -> Price:
    return Prices({}, LISTED).price(target(model, account), now, tier=tier, input_tokens=input_tokens)


def figures(found: Price) -> tuple[int, int, int]:
    return found.input_nano_usd, found.cached_input_nano_usd, found.output_nano_usd


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4.1", (2_000_000_000, 500_000_000, 8_000_000_000)),
        ("gpt-4.1-mini", (400_000_000, 100_000_000, 1_600_000_000)),
        ("gpt-5-nano", (50_000_000, 5_000_000, 400_000_000)),
    ],
)
def test_listed_prices_are_exact(model: str, expected: tuple[int, int, int]) -> None:
    found = price(model)

    assert figures(found) == expected
    assert found.source == SOURCE


def test_five_cents_per_million_are_fifty_nano_dollars_per_token() -> None:
    assert price("gpt-5-nano").cost(Usage(input_tokens=1, output_tokens=0)) == 50


@pytest.mark.parametrize("model", ["gpt-99", "ft:gpt-4.1-mini:acme::1", "llama", ""])
def test_an_unknown_price_is_unknown_and_not_zero(model: str) -> None:
    found = price(model)

    assert found == UNKNOWN_PRICE
    assert not found.is_known


def test_an_unknown_provider_has_no_prices_even_for_known_names() -> None:
    assert not price("gpt-4.1", account="vllm").is_known


def test_an_account_is_recognised_by_its_address() -> None:
    assert figures(price("gpt-4.1", account="eu")) == figures(price("gpt-4.1"))


def test_the_operators_price_wins() -> None:
    overrides = {"gpt-4.1": PriceTable(input=Decimal("0.05"), output=Decimal("0.123456789"))}

    found = Prices(overrides, LISTED).price(target("gpt-4.1"), NOW, tier="priority", input_tokens=0)

    assert figures(found) == (50_000_000, 50_000_000, 123_456_789)
    assert found.source == OVERRIDE_SOURCE


def test_a_price_belongs_to_its_date() -> None:
    before = price("gpt-5.6-sol", now=datetime(2026, 8, 20, tzinfo=UTC))
    after = price("gpt-5.6-sol", now=datetime(2026, 8, 22, tzinfo=UTC))

    assert (before.output_nano_usd, after.output_nano_usd) == (30_000_000_000, 20_000_000_000)


def test_a_long_prompt_costs_more_throughout() -> None:
    short, long = price("gpt-5.4", input_tokens=271_999), price("gpt-5.4", input_tokens=272_000)

    assert figures(short) == (2_500_000_000, 250_000_000, 15_000_000_000)
    assert figures(long) == (5_000_000_000, 500_000_000, 22_500_000_000)


@pytest.mark.parametrize(
    ("written", "usd"), [(None, "0.0025"), (0, "0.002"), (600, "0.0023"), (1_000, "0.0025"), (9_999, "0.0025")]
)
def test_cache_writes_cost_more_and_unknown_ones_are_priced_as_all_written(written: int | None, usd: str) -> None:
    usage = Usage(input_tokens=2_000, output_tokens=0, cached_input_tokens=1_000, cache_write_tokens=written)

    assert price("gpt-6.1-sol").cost(usage) == nano_from_usd(usd) + 100_000


@pytest.mark.parametrize(
    ("tier", "output"), [("", 8), ("auto", 8), ("default", 8), ("flex", 8), ("priority", 14), ("fast", 14)]
)
def test_the_dearest_tier_that_may_serve_is_taken(tier: str, output: int) -> None:
    assert price("gpt-4.1", tier=tier).output_nano_usd == output * 1_000_000_000


def test_a_tier_that_nobody_has_priced_is_unknown_and_not_the_standard_one() -> None:
    assert price("gpt-4.1", tier="new") == UNKNOWN_PRICE


@pytest.mark.parametrize(
    ("tier", "output"),
    [("default", 20), ("scale", 20), ("flex", 10), ("batch", 10), ("priority", 40), ("fast", 40)],
)
def test_a_call_costs_what_the_tier_costs_that_served_it(tier: str, output: int) -> None:
    found = Prices({}, LISTED).served(target("gpt-5.6-sol"), NOW, tier=tier, input_tokens=0)

    assert found is not None
    assert found.output_nano_usd == output * 1_000_000_000


@pytest.mark.parametrize("tier", [None, "", "auto", "new"])
def test_a_tier_that_was_not_told_or_is_not_known_costs_as_was_reserved(tier: str | None) -> None:
    assert Prices({}, LISTED).served(target("gpt-5.6-sol"), NOW, tier=tier, input_tokens=0) is None


@pytest.mark.parametrize("tier", ["", "auto", "default", "flex", "scale", "batch"])
@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-5", "gpt-5.4", "gpt-5.6-sol", "gpt-6.1-sol"])
def test_serving_as_asked_or_standard_never_costs_more_than_was_reserved(model: str, tier: str) -> None:
    prices, usage = Prices({}, LISTED), Usage(input_tokens=300_000, output_tokens=9)
    reserved = prices.price(target(model), NOW, tier=tier, input_tokens=300_000).cost(usage)

    for size in (1, 271_999, 300_000):
        for serving in {"default", tier}:
            served = prices.served(target(model), NOW, tier=serving, input_tokens=size)
            assert served is None or served.cost(replace(usage, input_tokens=size)) <= reserved


def test_operators_price_tiers_and_what_is_unnamed_costs_as_the_default() -> None:
    tiers = {
        "flex": TierPriceTable(input=Decimal("0.1"), output=Decimal("0.2")),
        "priority": TierPriceTable(input=Decimal(9), cache_write=Decimal(11), output=Decimal("0.3")),
    }
    prices = Prices({"m": PriceTable.model_validate({"input": 1, "output": 4, "tiers": tiers})}, LISTED)

    reserved = [prices.price(target("m"), NOW, tier=tier, input_tokens=0) for tier in ("flex", "priority", "")]
    served = [
        prices.served(target("m"), NOW, tier=tier, input_tokens=0) for tier in ("flex", "priority", "scale", None)
    ]

    assert [figures(each)[::2] for each in reserved] == [(10**9, 4 * 10**9), (9 * 10**9, 4 * 10**9), (10**9, 4 * 10**9)]
    assert reserved[1].cache_write_nano_usd == 11 * 10**9
    assert [each and each.output_nano_usd for each in served] == [2 * 10**8, 3 * 10**8, 4 * 10**9, 4 * 10**9]


def test_the_list_is_asked_once_per_model_and_period() -> None:
    asked: list[datetime] = []
    rates = Rates(steps=((0, price("gpt-4.1")),))

    def listed(target: Target, now: datetime, tier: str) -> Rates:
        asked.append(now)
        return rates

    prices = Prices({}, listed)
    for minutes in (0, 1, 29, 30, 59):
        prices.price(target("m"), NOW + timedelta(minutes=minutes), tier="", input_tokens=5)

    assert len(asked) == 2
