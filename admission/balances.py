"""Reading budget counters, and how long each is kept. Whole nano-dollars, never floats."""

from asyncio import gather
from collections.abc import Sequence

from admission.keys import Keys
from admission.limits import Balance
from admission.wire import Wire
from schemas.admission import BudgetCounter
from schemas.money import NanoUsd

DAY_SECONDS = 86_400
LENGTH_OF_A_DAYS_NAME = len("2026-11-24")


def retention_seconds(window: str) -> int:
    """Longer than the window and the last suspense in it: months two, days a week over, hours three days."""
    if len(window) > LENGTH_OF_A_DAYS_NAME:
        return 3 * DAY_SECONDS
    if len(window) == LENGTH_OF_A_DAYS_NAME:
        return 8 * DAY_SECONDS
    return 64 * DAY_SECONDS


async def read_balances(wire: Wire, keys: Keys, counters: Sequence[BudgetCounter]) -> list[Balance]:
    """Limit, settled and reserved of each counter, in this order; a counter that nobody used is all zero."""
    replies = await gather(*(wire.command("HMGET", keys.counter(each), "l", "s", "r") for each in counters))
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
