"""Queues checks for one child process, round-robin by tenant."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from providers.contract.checks.process import Child, ChildDiedError
from schemas.ids import TenantId

log = structlog.get_logger()

MAX_DEATHS = 2
"""Most children that a check may end; something else may have killed the first."""

WAITED = "waited"


@dataclass(eq=False, slots=True)
class Check:
    """One reply that waits for its verdict; None if abandoned."""

    tenant_id: TenantId
    request: bytes
    since: float
    answer: asyncio.Future[bytes | None]
    deaths: int = 0


@dataclass(eq=False)
class CheckQueue:
    """The checks that wait for one child."""

    child: Child
    clock: Callable[[], float]
    on_slow: Callable[[TenantId], None]
    idle_seconds: float
    longest_wait_seconds: float | None = None
    _waiting: OrderedDict[TenantId, deque[Check]] = field(default_factory=OrderedDict)
    _serving: asyncio.Task[None] | None = None
    _retirement: asyncio.TimerHandle | None = None

    def add(self, check: Check) -> None:
        """Queue a check."""
        self._waiting.setdefault(check.tenant_id, deque()).append(check)
        if self._serving is None:
            if self._retirement is not None:
                self._retirement.cancel()
            self._serving = asyncio.create_task(self._serve())

    def remove(self, tenant_id: TenantId) -> list[Check]:
        """Remove and return a tenant's waiting checks."""
        return list(self._waiting.pop(tenant_id, ()))

    async def close(self) -> None:
        """End the child and cancel the waiting checks."""
        if self._retirement is not None:
            self._retirement.cancel()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        for check in [check for checks in self._waiting.values() for check in checks]:
            check.answer.cancel()
        self._waiting.clear()
        await self.child.end()

    async def _serve(self) -> None:
        while self._waiting:
            check = self._next()
            try:
                await self._answer(check)
            except BaseException as error:  # a bug, or the end of this process: the waiter needs it
                if isinstance(error, Exception):
                    check.answer.set_exception(error)
                    continue
                check.answer.cancel()
                raise
        self._serving = None
        self._retirement = asyncio.get_running_loop().call_later(self.idle_seconds, self._retire)

    def _next(self) -> Check:
        tenant_id, checks = self._waiting.popitem(last=False)
        check = checks.popleft()
        if checks:
            self._waiting[tenant_id] = checks
        return check

    async def _answer(self, check: Check) -> None:
        waited = self.clock() - check.since
        if self.longest_wait_seconds is not None and waited > self.longest_wait_seconds:
            self._give_up(check, WAITED)
            return
        try:
            check.answer.set_result(await self.child.ask(check.request))
        except TimeoutError:
            self._give_up(check, "slow")
        except ChildDiedError:
            check.deaths += 1
            if check.deaths < MAX_DEATHS:
                self._waiting.setdefault(check.tenant_id, deque()).appendleft(check)
            else:
                self._give_up(check, "died")

    def _give_up(self, check: Check, reason: str) -> None:
        log.warning("check_given_up", tenant_id=check.tenant_id, reason=reason, bytes=len(check.request))
        check.answer.set_result(None)
        if reason != WAITED:
            self.on_slow(check.tenant_id)

    def _retire(self) -> None:
        self._serving = asyncio.create_task(self._ended())

    async def _ended(self) -> None:
        await self.child.end()
        self._serving = None
        if self._waiting:
            self._serving = asyncio.create_task(self._serve())
