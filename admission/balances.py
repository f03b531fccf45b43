"""Reads budget counters and decides how long each is kept."""

import re
from asyncio import gather
from collections.abc import Sequence

from admission.keys import Keys
from admission.limits import Balance
from admission.wire import Wire
from schemas.admission import BudgetCounter
from schemas.money import NanoUsd

DAY_SECONDS = 86_400
HIGHEST_LIMIT_NANO_USD = 9_000_000_000_000_000_000
"""Below 2^63, where HINCRBY would fail in the middle of a script."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(@.*)?")
_HOUR = re.compile(r"\d{4}-\d{2}-\d{2}T.*")


def retention_seconds(window: str) -> int:
    """Return how long a counter is kept, so that no budget is spent twice.

    An unknown window may be a month.
    """
    if _HOUR.fullmatch(window):
        return 3 * DAY_SECONDS
    if _DAY.fullmatch(window):
        return 8 * DAY_SECONDS
    return 64 * DAY_SECONDS


async def read_balances(wire: Wire, keys: Keys, counters: Sequence[BudgetCounter]) -> list[Balance]:
    """Return the balances in this order; an unused counter is all zero."""
    replies = await gather(*(wire.command("HMGET", keys.counter(counter), "l", "s", "r") for counter in counters))
    return [_balance(counter, reply) for counter, reply in zip(counters, replies, strict=True)]


def _balance(counter: BudgetCounter, reply: Sequence[bytes | None]) -> Balance:
    limit, settled, reserved = reply
    return Balance(
        scope=counter.scope,
        window=counter.window,
        limit_nano_usd=counter.limit_nano_usd if limit is None else NanoUsd(int(limit)),
        settled_nano_usd=NanoUsd(int(settled or 0)),
        reserved_nano_usd=NanoUsd(int(reserved or 0)),
    )
