"""Waits for admission in a worker process and skips round trips that must fail.

Without Redis nothing is admitted; upkeep settles expired reservations from Postgres. A newer epoch is adopted, and
Postgres checks it before a call. Invariants: a local answer is never a grant; an ask that outlives its budget window is
refused as stale.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from admission.recall import Recall, Reservations
from admission.remembered_waits import RememberedWaits
from schemas.admission import (
    TENANT_REASONS,
    Ask,
    Grant,
    Penalty,
    Refusal,
    RefusalReason,
    SettleKind,
    Settlement,
    Wait,
    WaitReason,
)
from schemas.errors import RedisUnavailable
from schemas.ids import JobId
from schemas.job import Target
from schemas.money import usd_text

log = structlog.get_logger()

HOLD_SECONDS = 2.0
DEFAULT_SLOTS = 500
SHARE_WAITERS_PART = 8
"""One slot in this many may hold a job that waits for its tenant's share; the others wait in Postgres."""
LONGEST_JITTER_MS = 2.0
"""Keeps processes out of lockstep."""
HORIZON_MS = 50
"""A grant that starts this soon saves a second round trip; the lane's floor caps it."""
TICKET_HORIZON_MS = 150
"""The same for an ask with a ticket: a slightly later grant beats asking again."""


class SharedGate(Reservations, Protocol):
    """The gate shared by all processes."""

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Decide now."""

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze a target."""

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a refusal of an account."""


class LocalGate:
    """Wraps the shared gate for one process. `jitter` is uniform in [0, 1)."""

    def __init__(
        self,
        gate: SharedGate,
        *,
        jitter: Callable[[], float],
        hold_seconds: float = HOLD_SECONDS,
        family_of: Callable[[Target], str | None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        slots: int = DEFAULT_SLOTS,
    ) -> None:
        self._gate = gate
        self._share_waiters = asyncio.Semaphore(max(1, slots // SHARE_WAITERS_PART))
        self._family_of = family_of
        self._wall = now
        self._recall = Recall(gate)
        self._jitter = jitter
        self._hold_seconds = hold_seconds
        self._waits = RememberedWaits(jitter)
        self._releases: set[asyncio.Task[bool]] = set()
        self.epoch = 0
        """Ledger epoch of this process; 0 before the gate named one."""
        self._settlements_wait = False

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask, and wait up to the hold time; refuses as NOT_READY without Redis."""
        try:
            return await self.wait_for_grant(ask, self._hold_seconds)
        except RedisUnavailable as error:
            log.debug("gate_away", reason=error.message)
            return Refusal(reason=RefusalReason.NOT_READY)

    async def wait_for_grant(self, ask: Ask, hold_seconds: float) -> Grant | Wait | Refusal:
        """Wait and ask again until granted or too late; a grant may start at once. Raises RedisUnavailable."""
        ask = replace(ask, family=self._family_of(ask.target))
        started = _now()
        remembered = self._waits.of(ask, started)
        if remembered is not None:
            return remembered
        answer = await self._ask_gate(ask, started)
        waited_for: WaitReason | None = None
        while isinstance(answer, Wait):
            wait_seconds = (answer.retry_after_ms + self._jitter() * LONGEST_JITTER_MS) / 1_000
            if _now() - started + wait_seconds > hold_seconds:
                self._waits.remember(ask, answer, hold_seconds, _now())
                return answer
            if not await self._waited_in_place(wait_seconds, answer.reason):
                return replace(answer, retry_after_ms=max(answer.retry_after_ms, round(hold_seconds * 1_000)))
            ask, waited_for = _with_ticket(ask, answer), answer.reason
            answer = await self._ask_gate(ask, started)
        if isinstance(answer, Grant):
            return await self._wait_for_start(answer)
        return replace(answer, waited_for=waited_for)

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the actual usage, once per stamp; False without Redis."""
        if settlement.actual_nano_usd > settlement.grant.cost_nano_usd:
            _warn_of_excess(settlement)
        try:
            settled = await self._gate.settle(settlement)
        except RedisUnavailable as error:
            if not self._settlements_wait:
                log.warning("settlements_wait_for_redis", stamp=settlement.grant.stamp, reason=error.message)
            self._settlements_wait = True
            return False
        self._settlements_wait = False
        return settled

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target, or its family, for all workers; does nothing without Redis."""
        family = self._family_of(target)
        try:
            await self._gate.penalize(target if family is None else replace(target, model=family), penalty)
        except RedisUnavailable as error:
            log.warning("penalty_lost", target=str(target), reason=error.message)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a refusal; a second job's stops the account. Without Redis it is not counted."""
        try:
            stopped = await self._gate.doubt_account(account, reason, job_id)
        except RedisUnavailable as error:
            log.warning("doubt_lost", account=account, reason=error.message)
            return False
        if stopped:
            log.error("account_stopped", account=account, reason=reason)
        else:
            log.warning("account_doubted", account=account, reason=reason)
        return stopped

    async def aclose(self) -> None:
        """Wait until pending releases have reached Redis."""
        await self._recall.aclose()
        await asyncio.gather(*self._releases, return_exceptions=True)

    async def _waited_in_place(self, seconds: float, reason: WaitReason) -> bool:
        """Returns False at once if too many jobs already wait for tenants' shares."""
        if reason not in TENANT_REASONS:
            await asyncio.sleep(seconds)
            return True
        if self._share_waiters.locked():
            return False
        async with self._share_waiters:
            await asyncio.sleep(seconds)
        return True

    async def _ask_gate(self, ask: Ask, started: float) -> Grant | Wait | Refusal:
        waited_ms = ask.waited_ms + int((_now() - started) * 1_000)
        epoch = max(ask.epoch, self.epoch)
        if any(counter.ends_at is not None and counter.ends_at <= self._wall() for counter in ask.counters):
            return Refusal(reason=RefusalReason.STALE_WINDOW)
        current = replace(
            ask,
            waited_ms=waited_ms,
            epoch=epoch,
            horizon_ms=ask.horizon_ms or (TICKET_HORIZON_MS if ask.has_ticket else HORIZON_MS),
        )
        answer = await self._admit(current)
        if isinstance(answer, Refusal) and answer.reason is RefusalReason.STALE_EPOCH and self._adopt(answer, epoch):
            return await self._admit(replace(current, epoch=self.epoch))
        return answer

    async def _admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Await the answer even if cancelled, and release a grant that came too late."""
        admission = asyncio.create_task(self._gate.admit(ask))
        try:
            return await asyncio.shield(admission)
        except RedisUnavailable:
            self._recall.lost(ask)
            raise
        except asyncio.CancelledError:
            self._in_background(self._give_back_if_granted(admission))
            raise

    def _adopt(self, refusal: Refusal, epoch: int) -> bool:
        """Ignores an older epoch, which comes from a Redis that lost its memory."""
        if refusal.scope is None or int(refusal.scope) <= epoch:
            return False
        self.epoch = int(refusal.scope)
        return True

    async def _wait_for_start(self, grant: Grant) -> Grant:
        try:
            await asyncio.sleep(grant.wait_ms / 1_000)
        except asyncio.CancelledError:
            self._in_background(self._give_back(grant))
            raise
        return grant

    async def _give_back_if_granted(self, admission: "asyncio.Task[Grant | Wait | Refusal]") -> bool:
        answer = await admission
        return isinstance(answer, Grant) and await self._give_back(answer)

    async def _give_back(self, grant: Grant) -> bool:
        return await self._gate.settle(Settlement(grant=grant, kind=SettleKind.RELEASE))

    def _in_background(self, release_call: Coroutine[None, None, bool]) -> None:
        release = asyncio.create_task(release_call)
        self._releases.add(release)
        release.add_done_callback(self._released)

    def _released(self, release: asyncio.Task[bool]) -> None:
        """Retrieve a failed release's exception; its reservation expires."""
        self._releases.discard(release)
        if not release.cancelled():
            release.exception()


def _with_ticket(ask: Ask, wait: Wait) -> Ask:
    if wait.reason in TENANT_REASONS:
        return replace(ask, has_share_ticket=True)
    return replace(ask, has_ticket=True)


def _warn_of_excess(settlement: Settlement) -> None:
    """Causes: a dearer tier than configured, or tokens beyond the output limit."""
    grant = settlement.grant
    log.warning(
        "cost_beyond_reservation",
        stamp=grant.stamp,
        target=str(grant.target),
        reserved_usd=usd_text(grant.cost_nano_usd),
        cost_usd=usd_text(settlement.actual_nano_usd),
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
