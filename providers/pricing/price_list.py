"""Reads rates from the packaged price list (`genai-prices`); fetches nothing.

Separate from `providers.pricing.pricing`, because importing the package loads an HTTP library.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version

from genai_prices import data_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from config.catalogue import Catalogue
from providers.pricing.pricing import Listed, Prices, Rates, price_from_usd
from schemas.job import Target
from schemas.money import Price

SOURCE = f"genai-prices {version('genai-prices')}"


def listed_prices(base_urls: Mapping[str, str]) -> Listed:
    """Return these accounts' price list, found by address, else by name."""
    providers = {account: _provider(account, url) for account, url in base_urls.items()}

    def listed(target: Target, now: datetime, tier: str) -> Rates | None:
        provider = providers.get(target.account)
        model = provider.find_model(target.model.lower()) if provider is not None else None
        return None if model is None else _rates(model, now, tier)

    return listed


def prices_of(catalogue: Catalogue, base_urls: Mapping[str, str]) -> Prices:
    """Return the prices of a catalogue with these addresses."""
    overrides = {name: table.price for name, table in catalogue.models.items() if table.price is not None}
    return Prices(overrides, listed_prices(base_urls))


def _provider(account: str, base_url: str) -> Provider | None:
    snapshot = data_snapshot.get_snapshot()
    try:
        return snapshot.find_provider(None, None, base_url)
    except LookupError:
        return next((provider for provider in snapshot.providers if provider.id == account), None)


def _rates(model: ModelInfo, now: datetime, tier: str) -> Rates | None:
    parameters = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    prices = model.get_prices(now, parameters)
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    tiered = [value for value in vars(prices).values() if isinstance(value, TieredPrices)]
    starts = sorted({0} | {tier.start for value in tiered for tier in value.tiers})
    return Rates(steps=tuple((start, _price(prices, start)) for start in starts))


def _price(prices: ModelPrice, start: int) -> Price:
    return price_from_usd(
        input_usd=_at(prices.input_mtok, start) or Decimal(0),
        cached_usd=_at(prices.cache_read_mtok, start),
        written_usd=_at(prices.cache_write_mtok, start),
        output_usd=_at(prices.output_mtok, start) or Decimal(0),
        source=SOURCE,
    )


def _at(value: Decimal | TieredPrices | None, start: int) -> Decimal | None:
    if not isinstance(value, TieredPrices):
        return value
    return next((tier.price for tier in reversed(value.tiers) if start >= tier.start), value.base)
