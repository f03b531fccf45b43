"""Reopens provider accounts that were stopped after a provider's refusal.

The gate opens first: a job that woke before would be parked again.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from schemas.admission import RefusalReason
from schemas.errors import NotFound
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.reply import TroubleKind
from storage.queue.early_wake import Change, Waiters

log = structlog.get_logger()

STOPPED_REASONS = (RefusalReason.ACCOUNT_STOPPED.value, TroubleKind.MONEY.value, TroubleKind.AUTH.value)
"""Wait reasons for a stopped account: refused by the gate, or by the provider."""


OpenAccount: TypeAlias = Callable[[str], Awaitable[str | None]]
"""Allows calls at the gate; returns why they were stopped, if so. Raises RedisUnavailable."""

Wake: TypeAlias = Callable[[Sequence[Change], Collection[Waiters]], Awaitable[None]]
"""Wakes parked jobs early. Raises PostgresUnavailable."""


@dataclass(slots=True)
class Accounts:
    """Reopens accounts. `names` are models and aliases; `chain` returns the targets of each."""

    open_account: OpenAccount
    wake: Wake
    names: Collection[str]
    chain: Callable[[str], Sequence[Target]]

    async def open(self, account: str) -> JsonObject:
        """Allow calls to the account again, and wake its jobs. Safe to call twice.

        Raises NotFound with the known accounts, RedisUnavailable and PostgresUnavailable; after the last, calls are
        allowed and jobs wake at their own times.
        """
        names_by_account = self._names_by_account()
        if account not in names_by_account:
            known = ", ".join(sorted(names_by_account))
            raise NotFound(f"There is no account '{account}'; there are: {known}.", param="account")
        stopped_for = await self.open_account(account)
        if stopped_for is not None:
            log.info("account_opened", account=account, was_stopped_for=stopped_for)
        names = names_by_account[account]
        await self.wake((), [Waiters(reason=why, model=name) for why in STOPPED_REASONS for name in names])
        return {"id": account, "object": "account", "state": "open", "was_stopped_for": stopped_for}

    def _names_by_account(self) -> Mapping[str, list[str]]:
        by_account: dict[str, list[str]] = {}
        for name in self.names:
            for account in sorted({target.account for target in self.chain(name)}):
                by_account.setdefault(account, []).append(name)
        return by_account
