"""What a stamp says: whose reservation it is, of which counters, and how much. Lua writes it, settle reads it back.

It begins with the name that the gate gives: the attempt and the counters that hold its money. So a reservation can be
given back by whoever finds its stamp, even when nobody has written down anything else about it.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

from schemas.admission import Ask, Grant
from schemas.ids import AttemptId, TenantId
from schemas.job import Target
from schemas.money import NanoUsd


@dataclass(frozen=True, slots=True)
class Stamp:
    """The readable part of a stamp. `counters` are (scope, window)."""

    attempt_id: AttemptId
    tokens: int
    cost_nano_usd: NanoUsd
    counters: tuple[tuple[str, str], ...] = ()


SHARED_BY = "~"
"""What stands in a stamp as if it were a scope, and its tenant as the window: versions that know no shares pass by."""


def stamp_name(ask: Ask) -> str:
    """The attempt, `@` the family where it has one, and each of its counters, as no id and no key of ours looks.

    Then its tenant, where it was counted against a share.
    """
    whose = ask.attempt_id if ask.family is None else f"{ask.attempt_id}@{ask.family}"
    counters = [f"{_safe(each.scope)}/{_safe(each.window)}" for each in ask.counters]
    return " ".join([whose, *counters, *([] if ask.share is None else [f"{SHARED_BY}/{_safe(ask.share.tenant_id)}"])])


def read_stamp(stamp: str) -> Stamp:
    """Take a stamp apart. Raises ValueError for a string that is none."""
    name, tokens, cost, _moment, _requests, _tokens, _refunded = stamp.rsplit("|", 6)
    whose, *counters = name.split(" ")
    named = tuple(_counter(counter) for counter in counters if not counter.startswith(f"{SHARED_BY}/"))
    return Stamp(AttemptId(whose.partition("@")[0]), int(tokens), NanoUsd(int(cost)), named)


def tenant_of(grant: Grant) -> TenantId | None:
    """The tenant whose share a grant counts against; None where it was counted against none."""
    if f" {SHARED_BY}/" not in grant.stamp:
        return None
    name = grant.stamp.rsplit("|", 6)[0].rpartition(f" {SHARED_BY}/")[2]
    return TenantId(unquote(name))


def bucket_of(grant: Grant) -> Target:
    """Where a grant's permits were taken. The stamp knows; what else is known of the grant may come from a row."""
    _, _, family = grant.stamp.rsplit("|", 6)[0].partition(" ")[0].partition("@")
    return Target(account=grant.target.account, model=family) if family else grant.target


def moment_of(stamp: str) -> int:
    """Microseconds since the scripts' origin, on the server's clock, at which the reservation's call may start."""
    return int(stamp.rsplit("|", 4)[1])


def _safe(part: str) -> str:
    return quote(part, safe="-._:@")


def _counter(written: str) -> tuple[str, str]:
    scope, _, window = written.partition("/")
    return unquote(scope), unquote(window)
