"""Compares the budget counters in Redis with the ledger in Postgres. Pure.

`reserved` must equal the reservations in Redis. `settled` must equal the ledger's sum, less attempts posted in Postgres
and still reserved in Redis. Entries booked between the two reads are no difference.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from admission.limits import Balance, Holdings
from admission.stamps import Stamp
from schemas.attempt import AttemptState
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
    reserved, under_way = _reserved(held.stamps, recorded), _under_way(held.stamps, recorded)
    most = {(total.scope, total.window): total.settled_nano_usd for total in recorded.sums}
    least = {(total.scope, total.window): total.settled_before_nano_usd for total in recorded.sums}
    corrections = []
    for balance in held.balances:
        counter = (balance.scope, balance.window)
        pending = under_way[counter]
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


def _reserved(stamps: Iterable[Stamp], recorded: AuditedLedger) -> defaultdict[_Counter, int]:
    sums: defaultdict[_Counter, int] = defaultdict(int)
    for stamp in stamps:
        for counter in _counters(stamp, recorded):
            sums[counter] += stamp.cost_nano_usd
    return sums


def _under_way(stamps: Iterable[Stamp], recorded: AuditedLedger) -> defaultdict[_Counter, int]:
    sums: defaultdict[_Counter, int] = defaultdict(int)
    for stamp in stamps:
        end = recorded.ends.get(stamp.attempt_id)
        if end is not None and end.state is AttemptState.POSTED:
            for counter in _counters(stamp, recorded):
                sums[counter] += end.cost_nano_usd
    return sums


def _counters(stamp: Stamp, recorded: AuditedLedger) -> Iterable[_Counter]:
    """Return the counters that a stamp, or for an older version its attempt, names."""
    end = recorded.ends.get(stamp.attempt_id)
    if stamp.counters or end is None:
        return stamp.counters
    return [(counter.scope, counter.window) for counter in end.grant.counters]
