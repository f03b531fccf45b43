"""Compares the budget counters in Redis with the ledger in Postgres. Pure.

`reserved` must equal the reservations in Redis. `settled` must equal the ledger's sum, less attempts posted in Postgres
and still reserved in Redis. Entries booked between the two reads are no difference.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from admission.limits import Balance, Holdings
from admission.stamps import Stamp
from schemas.attempt import AttemptState, SettledEnd
from schemas.ids import AttemptId
from storage.ledger.ledger import AuditedLedger

_Counter = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Corrects one counter; negative where it holds too much."""

    scope: str
    window: str
    settled_nano_usd: int
    reserved_nano_usd: int


def differences(held: Holdings, recorded: AuditedLedger) -> list[Difference]:
    """Return corrections of counters that differ from Postgres."""
    reserved, posted = _sums(held.stamps, recorded)
    most = {(total.scope, total.window): total.settled_nano_usd for total in recorded.sums}
    least = {(total.scope, total.window): total.settled_before_nano_usd for total in recorded.sums}
    corrections = []
    for balance in held.balances:
        counter = (balance.scope, balance.window)
        pending = posted[counter]
        difference = Difference(
            scope=balance.scope,
            window=balance.window,
            settled_nano_usd=_beyond(balance, least.get(counter, 0) - pending, most.get(counter, 0) - pending),
            reserved_nano_usd=reserved[counter] - balance.reserved_nano_usd,
        )
        if difference.settled_nano_usd or difference.reserved_nano_usd:
            corrections.append(difference)
    return corrections


def forgotten(held: Holdings, recorded: AuditedLedger) -> frozenset[AttemptId]:
    """Return open attempts without a reservation in Redis: no counter includes their money."""
    return recorded.open_before - {stamp.attempt_id for stamp in held.stamps}


def _beyond(balance: Balance, least: int, most: int) -> int:
    settled = balance.settled_nano_usd
    return min(max(settled, least), most) - settled


def _sums(stamps: Iterable[Stamp], recorded: AuditedLedger) -> tuple[Counter[_Counter], Counter[_Counter]]:
    """Sum by counter what the stamps reserve, and what of it is posted in Postgres."""
    reserved, posted = Counter[_Counter](), Counter[_Counter]()
    for stamp in stamps:
        end = recorded.ends.get(stamp.attempt_id)
        for counter in _counters(stamp, end):
            reserved[counter] += stamp.cost_nano_usd
            if end is not None and end.state is AttemptState.POSTED:
                posted[counter] += end.cost_nano_usd
    return reserved, posted


def _counters(stamp: Stamp, end: SettledEnd | None) -> Iterable[_Counter]:
    """Return the counters that a stamp, or for an older version its attempt, names."""
    if stamp.counters or end is None:
        return stamp.counters
    return [(counter.scope, counter.window) for counter in end.grant.counters]
