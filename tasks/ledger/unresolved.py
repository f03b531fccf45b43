"""Resolves charges of calls with unknown outcome.

its job runs again ──▶ the job looks the call up before it pays again (`tasks.execution.pipeline`) unresolved its job is
terminal ──▶ upkeep looks it up, at ages that double, where the account keeps completions a day has passed ──▶ presumed
at its reservation (`tasks.ledger.reconciliation`) an operator knows ──▶ the operator resolves it, at any time

Postgres decides which is first; Redis is updated afterwards.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import floor, log2
from typing import Protocol

import structlog

from config.catalogue import Catalogue
from schemas.admission import Settlement
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.errors import AccountUnavailable, InvalidRequest, NotFound
from schemas.ids import AttemptId
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, nano_from_usd, read_usd, usd_text
from storage.ledger.unresolved import BY_OPERATOR, ResolvedCharge, Span, SuspenseView
from tasks.execution.deps import Keepers
from tasks.ledger.reconciliation import PRESUME_AFTER_SECONDS, settlement_of
from tasks.maintenance.items import Isolation
from tasks.requests.chat import MAX_COST_USD

log = structlog.get_logger()

FIRST_LOOK_SECONDS = 10.0
"""Age at the first look-up: accounts list completions after a moment. Each later age is double."""

LOOK_AGES = tuple(
    timedelta(seconds=FIRST_LOOK_SECONDS * 2**number)
    for number in range(1 + floor(log2(PRESUME_AFTER_SECONDS / FIRST_LOOK_SECONDS)))
)
"""Ages at which a charge's account is asked."""

ASKED_PER_ROUND = 100
"""Look-ups at one account per round, so that others get theirs."""

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier than any unresolved charge."""

WHY = {
    "worker_lost": "its worker died during the call",
    "handed_back": "its worker was stopped during the call",
    "ambiguous": "it was sent, and no answer came",
    "cut": "its answer broke off",
    "unknown": "its error says nothing of the bill",
    "internal_error": "a fault of ours ended it before its answer was read",
    "late": "its worker had lost the job",
}


class SuspenseRows(Protocol):
    """Stores unresolved charges."""

    async def oldest(self, *, after: AttemptId | None = None, most: int = 50) -> Sequence[SuspenseView]:
        """List unresolved charges, oldest first."""

    async def resolve(self, attempt_id: AttemptId, billed_nano_usd: NanoUsd | None) -> ResolvedCharge | None:
        """Store an operator's decision; None for an unknown attempt."""


Settle = Callable[[Settlement], Awaitable[bool]]
"""Settles in Redis; False where done before."""


@dataclass(slots=True)
class Suspense:
    """Lists and resolves unresolved charges. `keeping` are the accounts that keep completions (`lookup = true`)."""

    rows: SuspenseRows
    settle: Settle
    keeping: Collection[str]
    now: Callable[[], datetime]

    async def oldest(self, *, after: AttemptId | None, most: int) -> list[JsonObject]:
        """List unresolved charges, with what resolves each and when."""
        now = self.now()
        return [self._row(view, now) for view in await self.rows.oldest(after=after, most=most)]

    async def resolve(self, attempt_id: AttemptId, billed_usd: str | float | None) -> JsonObject:
        """Post what was billed; None releases the reservation. Safe to call twice.

        Raises NotFound, InvalidRequest for an attempt resolved otherwise, and RedisUnavailable: upkeep then updates
        Redis.
        """
        billed = None if billed_usd is None else _amount(billed_usd)
        standing = await self.rows.resolve(attempt_id, billed)
        if standing is None:
            raise NotFound(f"There is no attempt with the id '{attempt_id}'.", param="id")
        state = AttemptState.RELEASED if billed is None else AttemptState.POSTED
        if (standing.outcome, standing.state, standing.cost_nano_usd) != (BY_OPERATOR, state, billed or 0):
            raise InvalidRequest(_otherwise(standing), param="id")
        log.info("suspense_resolved", attempt_id=attempt_id, billed_nano_usd=billed)
        await self.settle(settlement_of(standing.grant, billed))
        return {
            "id": attempt_id,
            "object": "suspense",
            "state": standing.state.value,
            "billed_usd": usd_text(standing.cost_nano_usd),
            "reserved_usd": usd_text(standing.grant.cost_nano_usd),
        }

    def _row(self, view: SuspenseView, now: datetime) -> JsonObject:
        presumed_at = view.opened_at + timedelta(seconds=PRESUME_AFTER_SECONDS)
        resolved_by, resolved_at = self._resolver(view, presumed_at, now)
        return {
            "id": view.id,
            "object": "suspense",
            "job_id": view.job_id,
            "job_state": view.job_state,
            "tenant_id": view.tenant_id,
            "target": str(view.grant.target),
            "counters": [f"{counter.scope}/{counter.window}" for counter in view.grant.counters],
            "reserved_usd": usd_text(view.grant.cost_nano_usd),
            "outcome": view.outcome,
            "why": WHY.get(view.outcome or "", view.outcome),
            "opened_at": view.opened_at,
            "since": view.since_at,
            "resolved_by": resolved_by,
            "resolved_at": resolved_at,
            "presumed_at": presumed_at,
        }

    def _resolver(self, view: SuspenseView, presumed_at: datetime, now: datetime) -> tuple[str, datetime | None]:
        if view.grant.target.account not in self.keeping:
            return "presumption", presumed_at
        if not view.job_state.at_rest:
            return "its job", None
        return "look-up", min(next_look(view.since_at, now) or presumed_at, presumed_at)


class LeftBehind(Protocol):
    """Reads charges that no job will look up."""

    async def left_behind(
        self, account: str, since: Sequence[Span], *, behind: OpenedAttempt | None, most: int
    ) -> Sequence[OpenedAttempt]:
        """Return a page of unresolved attempts of terminal jobs, oldest first."""


Post = Callable[[AttemptId, NanoUsd], Awaitable[bool]]
"""Posts a looked-up cost; False where resolved before."""


@dataclass(kw_only=True)
class LookUps:
    """Looks up unresolved charges at accounts that keep completions."""

    rows: LeftBehind
    post: Post
    settle: Settle
    keepers: Keepers
    accounts: Collection[str]
    now: Callable[[], datetime]
    _isolation: Isolation = field(default_factory=lambda: Isolation("look_up"))
    _looked_at: dict[str, datetime] = field(default_factory=dict)
    _under_way: dict[str, tuple[datetime, OpenedAttempt | None]] = field(default_factory=dict)

    async def look(self) -> int:
        """Look up due attempts; returns how many were posted.

        The next round continues where an account had too many or was unavailable.
        """
        now = self.now()
        return await self._isolation.each(sorted(self.accounts), str, lambda account: self._look_at(account, now))

    async def _look_at(self, account: str, now: datetime) -> int:
        until, behind = self._under_way.setdefault(account, (now, None))
        since, booked = turns(self._looked_at.get(account, BEGINNING), until), 0
        page = await self.rows.left_behind(account, since, behind=behind, most=ASKED_PER_ROUND)
        for opened in page:
            try:
                booked += await self._isolation.run(opened.id, partial(self._ask, opened))
            except AccountUnavailable:
                return booked
            self._under_way[account] = (until, opened)
        if len(page) < ASKED_PER_ROUND:
            self._looked_at[account], _ = self._under_way.pop(account)
        return booked

    async def _ask(self, opened: OpenedAttempt) -> bool:
        reply = await self.keepers.look_up(opened.target, opened.id)
        if reply is None or reply.usage is None:
            return False
        cost = self.keepers.served_price(opened, reply).cost(reply.usage)
        if not await self.post(opened.id, cost):
            return False
        log.info("suspense_looked_up", attempt_id=opened.id, nano_usd=cost)
        await self.settle(settlement_of(opened.grant, cost, reply.usage.total_tokens))
        return True


def keeping(catalogue: Catalogue) -> frozenset[str]:
    """List accounts that keep completions."""
    return frozenset(name for name, table in catalogue.providers.items() if table.lookup)


def turns(after: datetime, until: datetime) -> list[Span]:
    """Return the spans of charges that become due after `after` and up to `until`."""
    return [Span(after - age, until - age) for age in LOOK_AGES]


def next_look(since_at: datetime, now: datetime) -> datetime | None:
    """Return when a charge is looked up next; None after the last look-up."""
    return next((since_at + age for age in LOOK_AGES if since_at + age > now), None)


def _amount(billed_usd: str | float) -> NanoUsd:
    amount = read_usd(billed_usd)
    if amount is None or not 0 <= amount <= MAX_COST_USD:
        raise InvalidRequest(f"billed_usd must be an amount from 0 to {MAX_COST_USD}.", param="billed_usd")
    return nano_from_usd(amount)


def _otherwise(standing: ResolvedCharge) -> str:
    match standing.state:
        case AttemptState.SUSPENSE | AttemptState.OPENED:
            return "This attempt is still under way; only what is in suspense can be resolved."
        case AttemptState.RELEASED:
            return f"This attempt was released before ({standing.outcome}); nothing was booked."
        case AttemptState.POSTED:
            cost = usd_text(standing.cost_nano_usd)
            return f"This attempt was booked before at {cost} USD ({standing.outcome})."
