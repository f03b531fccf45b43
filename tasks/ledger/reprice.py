"""Prices past attempts again at the prices of their time, and posts the differences.

Each round is one transaction. Safe to run twice and to stop midway.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.job import Target
from schemas.money import NanoUsd, Price
from storage.ledger.reprice import PostedAttempt, RepriceTable


class PriceList(Protocol):
    """Gives prices at a moment."""

    def price(self, target: Target, now: datetime, *, tier: str, input_tokens: int) -> Price:
        """Return the price of a request of this size, or UNKNOWN_PRICE."""

    def served(self, target: Target, now: datetime, *, tier: str | None, input_tokens: int) -> Price | None:
        """Return the price of the tier that served; None where unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Holds one round's result. The next begins at `after`; None ends. `unpriced` stay unchanged."""

    checked: int
    unpriced: int
    adjusted: int
    adjusted_nano_usd: NanoUsd
    after: str | None


class Repricing:
    """Prices past attempts again."""

    def __init__(self, rows: RepriceTable, prices: PriceList) -> None:
        self._rows = rows
        self._prices = prices

    async def round(self, *, since: datetime, model: str | None, after: str = "", dry_run: bool = False) -> Round:
        """Price the next attempts as of their opening; `dry_run` stores nothing."""
        posted = await self._rows.posted(since=since, model=model, after=after)
        costs = {
            attempt.id: price.cost(attempt.usage) for attempt in posted if (price := self._price(attempt)).is_known
        }
        differences = await self._rows.correct(costs, dry_run=dry_run) if costs else []
        return Round(
            checked=len(posted),
            unpriced=len(posted) - len(costs),
            adjusted=len(differences),
            adjusted_nano_usd=NanoUsd(sum(differences)),
            after=posted[-1].id if posted else None,
        )

    def _price(self, attempt: PostedAttempt) -> Price:
        size = attempt.usage.input_tokens
        served = self._prices.served(attempt.target, attempt.opened_at, tier=attempt.served, input_tokens=size)
        return served or self._prices.price(attempt.target, attempt.opened_at, tier=attempt.tier, input_tokens=size)
