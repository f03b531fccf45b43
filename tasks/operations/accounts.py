"""An account that a provider's word has stopped, opened again by an operator.

The gate is told first: a job that woke before it would be parked anew. Wakes are asked for whether the account was
stopped or not, so that a word that was lost between the stores is mended by saying it again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from schemas.admission import RefusalReason
from schemas.errors import NotFound
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.reply import TroubleKind
from storage.queue.early_wake import Change, Waiters

log = structlog.get_logger()

STOPPED_REASONS = (RefusalReason.ACCOUNT_STOPPED.value, TroubleKind.MONEY.value, TroubleKind.AUTH.value)
"""What a job says that waits for a stopped account: the gate refused it, or it met the provider's refusal itself."""


class StoppedAccounts(Protocol):
    """Where accounts are stopped."""

    async def open_account(self, account: str) -> str | None:
        """Let calls through again; returns what it was stopped for. Raises RedisUnavailable."""


class Sleepers(Protocol):
    """Jobs that wait in Postgres."""

    async def note(self, changes: Sequence[Change], waiters: Collection[Waiters]) -> None:
        """Wake these jobs early. Raises PostgresUnavailable."""


class Accounts:
    """The operator's hand on accounts. `names` are models and aliases, `chain` says where each may lead."""

    def __init__(
        self,
        gate: StoppedAccounts,
        sleepers: Sleepers,
        *,
        names: Iterable[str],
        chain: Callable[[str], Sequence[Target]],
    ) -> None:
        self._gate = gate
        self._sleepers = sleepers
        self._names_by_account = _names_by_account(names, chain)

    async def open(self, account: str) -> JsonObject:
        """Let calls through to it again, and wake the jobs that wait for that. Safe to call twice.

        `was_stopped_for` is what the provider said, None where the account was open. Raises NotFound, naming the
        accounts that there are, RedisUnavailable and PostgresUnavailable; after the last the account is open and its
        jobs wake in their own time.
        """
        if account not in self._names_by_account:
            known = ", ".join(sorted(self._names_by_account))
            raise NotFound(f"There is no account '{account}'; there are: {known}.", param="account")
        stopped_for = await self._gate.open_account(account)
        if stopped_for is not None:
            log.info("account_opened", account=account, was_stopped_for=stopped_for)
        names = self._names_by_account[account]
        await self._sleepers.note((), [Waiters(reason=why, model=name) for why in STOPPED_REASONS for name in names])
        return {"id": account, "object": "account", "state": "open", "was_stopped_for": stopped_for}


def _names_by_account(names: Iterable[str], chain: Callable[[str], Sequence[Target]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for account in sorted({target.account for target in chain(name)}):
            found.setdefault(account, []).append(name)
    return found
