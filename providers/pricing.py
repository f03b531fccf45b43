"""What a model costs at a moment: the operator's price first, then the public list, else unknown and never zero. Pure.

Rates are a staircase over the size of the prompt, because beyond a threshold the whole request costs more. Where it is
not certain which tier will serve, the dearest that may is taken: a reservation may be too large, never too small.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

from config.catalogue import PriceTable
from schemas.job import Target
from schemas.money import UNKNOWN_PRICE, Price, nano_from_usd

MAX_REMEMBERED_RATES = 4_096
MINUTES_PER_PERIOD = 30
"""Prices change at midnight, and some at half hours; within a period one look-up serves all jobs."""

STANDARD_TIERS = frozenset({"", "auto", "default", "flex", "scale"})
"""Tiers that are served at the standard price or below. `flex` stays here: it may be served, and then billed, so."""

OVERRIDE_SOURCE = "penstock.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Prices by the size of the prompt: (from that many input tokens, price), the first from 0."""

    steps: tuple[tuple[int, Price], ...]

    def price(self, input_tokens: int) -> Price:
        """The price of a whole request with so large a prompt."""
        return next(price for start, price in reversed(self.steps) if input_tokens >= start)


Listed: TypeAlias = Callable[[Target, datetime, str], Rates | None]
"""A public price list: target, moment and tier to rates; None where it does not know."""


def price_from_usd(*, input_usd: Decimal, cached_usd: Decimal | None, output_usd: Decimal, source: str) -> Price:
    """A price from USD per million tokens; cached input costs as fresh where nobody says otherwise."""
    fresh = nano_from_usd(input_usd)
    cached = fresh if cached_usd is None else nano_from_usd(cached_usd)
    return Price(
        input_nano_usd=fresh, cached_input_nano_usd=cached, output_nano_usd=nano_from_usd(output_usd), source=source
    )


def dearer(one: Price, other: Price) -> Price:
    """The dearer of two, figure by figure."""
    return replace(
        one,
        input_nano_usd=max(one.input_nano_usd, other.input_nano_usd),
        cached_input_nano_usd=max(one.cached_input_nano_usd, other.cached_input_nano_usd),
        output_nano_usd=max(one.output_nano_usd, other.output_nano_usd),
    )


class Prices:
    """Looks prices up, and remembers them for a period."""

    def __init__(self, overrides: Mapping[str, PriceTable], listed: Listed) -> None:
        self._overrides = {
            model: price_from_usd(
                input_usd=table.input, cached_usd=table.cached_input, output_usd=table.output, source=OVERRIDE_SOURCE
            )
            for model, table in overrides.items()
        }
        self._listed = listed
        self._rates: dict[tuple[Target, str, datetime], Rates | None] = {}

    def price(self, target: Target, now: datetime, *, tier: str, input_tokens: int) -> Price:
        """The dearest price at which a request of this size may be served, or UNKNOWN_PRICE."""
        override = self._overrides.get(target.model)
        if override is not None:
            return override
        rates = self._remembered(target, now, "" if tier in STANDARD_TIERS else tier)
        return UNKNOWN_PRICE if rates is None else rates.price(input_tokens)

    def _remembered(self, target: Target, now: datetime, tier: str) -> Rates | None:
        key = (target, tier, _period(now))
        if key not in self._rates:
            if len(self._rates) >= MAX_REMEMBERED_RATES:
                self._rates.clear()
            self._rates[key] = self._dearest(target, now, tier)
        return self._rates[key]

    def _dearest(self, target: Target, now: datetime, tier: str) -> Rates | None:
        standard = self._listed(target, now, "default")
        wanted = self._listed(target, now, tier) if tier else None
        if standard is None or wanted is None:
            return standard
        starts = sorted({start for rates in (standard, wanted) for start, _ in rates.steps})
        return Rates(steps=tuple((start, dearer(wanted.price(start), standard.price(start))) for start in starts))


def _period(now: datetime) -> datetime:
    utc = now.astimezone(UTC)
    return utc.replace(minute=utc.minute - utc.minute % MINUTES_PER_PERIOD, second=0, microsecond=0)
