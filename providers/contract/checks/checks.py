"""Checks large replies in child processes, which can be killed, fairly between tenants.

At most two children run; they start when needed and end when idle. A tenant whose check was abandoned uses the second
child for a while, so that its next slow check delays no other tenant.
"""

import asyncio
import time
from collections.abc import Callable

from providers.contract.checks.child import judged_of, request_of
from providers.contract.checks.process import Child
from providers.contract.checks.queue import Check, CheckQueue
from providers.contract.validation import TOO_DEEP
from schemas.ids import TenantId
from schemas.jsons import JsonObject
from schemas.outcome import Invalid, Judged
from schemas.reply import Reply

CHECK_SECONDS = 2.0
"""Longest time of one check; normal ones take milliseconds."""

IDLE_SECONDS = 60.0
"""A child takes 30 MB, so it ends after this long without a check."""

SLOW_TENANT_SECONDS = 600.0
"""How long a tenant uses the second child after one of its checks was abandoned."""

LONGEST_WAIT_SECONDS = 10.0
"""Longest wait of a check for the second child before it is abandoned, because its job holds a slot meanwhile."""


class Checks:
    """Judges replies in the children. Everything belongs to the event loop of the first check."""

    def __init__(
        self,
        *,
        seconds: float = CHECK_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._slow_until: dict[TenantId, float] = {}
        self.usual = CheckQueue(Child(seconds), clock, self._demote, idle_seconds)
        self.slow = CheckQueue(Child(seconds), clock, self._demote, idle_seconds, LONGEST_WAIT_SECONDS)

    async def judge(self, reply: Reply, schema: JsonObject, tenant_id: TenantId) -> Judged:
        """Return the verdict on a reply; Invalid if there is none within the time.

        A cancellation meanwhile is raised at the caller's next step, because the reply is paid for and must be recorded
        first.
        """
        try:
            request = request_of(reply, schema)
        except RecursionError:
            return Invalid(reply=reply, complaint=TOO_DEEP)
        check = Check(tenant_id, request, self._clock(), asyncio.get_running_loop().create_future())
        self._queue_of(tenant_id).add(check)
        answer = await _uninterrupted(check.answer)
        if answer is None:
            complaint = f"The reply could not be checked within {self._seconds:g} s."
            return Invalid(reply=reply, complaint=complaint)
        return judged_of(answer, reply)

    async def aclose(self) -> None:
        """End the children."""
        await self.usual.close()
        await self.slow.close()

    def _queue_of(self, tenant_id: TenantId) -> CheckQueue:
        until = self._slow_until.get(tenant_id)
        if until is None:
            return self.usual
        if until > self._clock():
            return self.slow
        del self._slow_until[tenant_id]
        return self.usual

    def _demote(self, tenant_id: TenantId) -> None:
        self._slow_until[tenant_id] = self._clock() + SLOW_TENANT_SECONDS
        for check in self.usual.remove(tenant_id):
            self.slow.add(check)


async def _uninterrupted(answer: asyncio.Future[bytes | None]) -> bytes | None:
    task, interruptions = asyncio.current_task(), 0
    assert task is not None  # noqa: S101 - we are in a coroutine
    while not answer.done():
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            interruptions += 1
            task.uncancel()
    for _ in range(interruptions):
        task.cancel()
    return answer.result()
