"""Finds the price of a model at a time; an unknown price is never zero. Pure.

Before a call the dearest tier that may serve counts; afterwards the tier that served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import TypeAlias

from config.catalogue import PriceTable, TierPriceTable
from schemas.job import Target
from schemas.money import UNKNOWN_PRICE, Price, nano_from_usd

MAX_REMEMBERED_RATES = 4_096
MINUTES_PER_PERIOD = 30
"""Prices change at midnight and some at half hours."""

STANDARD_TIERS = frozenset({"", "auto", "default", "flex", "scale", "batch"})
"""Tiers at the standard price or below; they may be billed as standard."""

LISTED_TIERS = frozenset({"default", "flex", "scale", "priority", "fast", "batch"})
"""Tiers listed separately; the list gives others the standard price."""

OVERRIDE_SOURCE = "penstock.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Prices by prompt size: (from input tokens, price), the first from 0."""

    steps: tuple[tuple[int, Price], ...]

    def price(self, input_tokens: int) -> Price:
        """Return the price for this prompt size."""
        return next(price for start, price in reversed(self.steps) if input_tokens >= start)


Listed: TypeAlias = Callable[[Target, datetime, str], Rates | None]
"""Target, time and tier to listed rates, if any."""


def price_from_usd(
    *, input_usd: Decimal, cached_usd: Decimal | None, written_usd: Decimal | None, output_usd: Decimal, source: str
) -> Price:
    """Make a price from USD per million tokens; None costs as other input."""
    fresh = nano_from_usd(input_usd)
    return Price(
        input_nano_usd=fresh,
        cached_input_nano_usd=fresh if cached_usd is None else nano_from_usd(cached_usd),
        cache_write_nano_usd=None if written_usd is None else nano_from_usd(written_usd),
        output_nano_usd=nano_from_usd(output_usd),
        source=source,
    )


def _overriding(table: TierPriceTable) -> Price:
    return price_from_usd(
        input_usd=table.input,
        cached_usd=table.cached_input,
        written_usd=table.cache_write,
        output_usd=table.output,
        source=OVERRIDE_SOURCE,
    )


def dearer(first: Price, second: Price) -> Price:
    """Return the dearer of two prices, figure by figure."""
    return replace(
        first,
        input_nano_usd=max(first.input_nano_usd, second.input_nano_usd),
        cached_input_nano_usd=max(first.cached_input_nano_usd, second.cached_input_nano_usd),
        cache_write_nano_usd=max(first.written_nano_usd, second.written_nano_usd),
        output_nano_usd=max(first.output_nano_usd, second.output_nano_usd),
    )


class Prices:
    """Looks up prices and caches them for a period."""

    def __init__(self, overrides: Mapping[str, PriceTable], listed: Listed) -> None:
        self._overrides = {model: _overriding(table) for model, table in overrides.items()}
        self._overridden_tiers: dict[tuple[str, str | None], Price] = {
            (model, tier): _overriding(priced)
            for model, table in overrides.items()
            for tier, priced in table.tiers.items()
        }
        self._listed = lru_cache(MAX_REMEMBERED_RATES)(listed)
        self._dearest = lru_cache(MAX_REMEMBERED_RATES)(partial(_dearest, self._listed))

    def price(self, target: Target, now: datetime, *, tier: str, input_tokens: int) -> Price:
        """Return the dearest price that may apply, or UNKNOWN_PRICE."""
        standard = self._overrides.get(target.model)
        if standard is not None:
            tiered = self._overridden_tiers.get((target.model, tier))
            return standard if tiered is None else dearer(tiered, standard)
        if tier not in STANDARD_TIERS | LISTED_TIERS:
            return UNKNOWN_PRICE
        rates = self._dearest(target, _period(now), "" if tier in STANDARD_TIERS else tier)
        return UNKNOWN_PRICE if rates is None else rates.price(input_tokens)

    def served(self, target: Target, now: datetime, *, tier: str | None, input_tokens: int) -> Price | None:
        """Return the price of the tier that served; None if unknown."""
        standard = self._overrides.get(target.model)
        if standard is not None:
            return self._overridden_tiers.get((target.model, tier), standard)
        if tier is None or tier not in LISTED_TIERS:
            return None
        rates = self._listed(target, _period(now), tier)
        return None if rates is None else rates.price(input_tokens)


def _dearest(listed: Listed, target: Target, now: datetime, tier: str) -> Rates | None:
    standard = listed(target, now, "default")
    tiered = listed(target, now, tier) if tier else None
    if standard is None or tiered is None:
        return standard
    starts = sorted({start for rates in (standard, tiered) for start, _ in rates.steps})
    return Rates(steps=tuple((start, dearer(tiered.price(start), standard.price(start))) for start in starts))


def _period(now: datetime) -> datetime:
    """Returns the start of a period, whose prices hold until its end."""
    utc = now.astimezone(UTC)
    return utc.replace(minute=utc.minute - utc.minute % MINUTES_PER_PERIOD, second=0, microsecond=0)
