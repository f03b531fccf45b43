"""Writes and reads stamps, which name a reservation's attempt, counters and amounts.

Lua appends the amounts. A stamp alone suffices to release its reservation.
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
"""Stands in place of a scope, with the tenant as window; versions without shares ignore it."""


def stamp_name(ask: Ask) -> str:
    """Return the start of a stamp: attempt, `@family`, counters, and the tenant with a share.

    It resembles no id and no key.
    """
    owner = ask.attempt_id if ask.family is None else f"{ask.attempt_id}@{ask.family}"
    counters = [f"{_safe(counter.scope)}/{_safe(counter.window)}" for counter in ask.counters]
    return " ".join([owner, *counters, *([] if ask.share is None else [f"{SHARED_BY}/{_safe(ask.share.tenant_id)}"])])


def read_stamp(stamp: str) -> Stamp:
    """Parse a stamp. Raises ValueError."""
    name, tokens, cost, _moment, _requests, _tokens, _refunded = stamp.rsplit("|", 6)
    owner, *counters = name.split(" ")
    pairs = tuple(_counter(counter) for counter in counters if not counter.startswith(f"{SHARED_BY}/"))
    return Stamp(AttemptId(owner.partition("@")[0]), int(tokens), NanoUsd(int(cost)), pairs)


def tenant_of(grant: Grant) -> TenantId | None:
    """Return the tenant whose share a grant counts against, if any."""
    _, is_shared, name = grant.stamp.rsplit("|", 6)[0].rpartition(f" {SHARED_BY}/")
    return TenantId(unquote(name)) if is_shared else None


def bucket_of(grant: Grant) -> Target:
    """Return the grant's bucket from its stamp, because its target may come from a row."""
    _, _, family = grant.stamp.rsplit("|", 6)[0].partition(" ")[0].partition("@")
    return Target(account=grant.target.account, model=family) if family else grant.target


def moment_of(stamp: str) -> int:
    """Return when the call may start: microseconds since the scripts' origin, server clock."""
    return int(stamp.rsplit("|", 4)[1])


def _safe(part: str) -> str:
    return quote(part, safe="-._:@")


def _counter(written: str) -> tuple[str, str]:
    scope, _, window = written.partition("/")
    return unquote(scope), unquote(window)
