"""Checks large replies in child processes, fairly between tenants.

At most two children run, on demand. After an abandoned check a tenant uses the second child for a while, so that it
delays no other tenant.
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
"""Longest check; normal ones take milliseconds."""

IDLE_SECONDS = 60.0
"""Idle time of a child, which takes 30 MB."""

SLOW_TENANT_SECONDS = 600.0
"""Time with the second child after an abandoned check."""

LONGEST_WAIT_SECONDS = 10.0
"""Longest wait for the second child, because the job holds a slot."""


class Checks:
    """Judges replies in children; belongs to the event loop of the first check."""

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
        """Return the verdict; Invalid if there is none in time.

        A cancellation is raised at the caller's next step, because the paid reply must be recorded first.
        """
        try:
            request = request_of(reply, schema)
        except RecursionError:
            return Invalid(reply=reply, complaint=TOO_DEEP)
        check = Check(tenant_id, request, self._clock(), asyncio.get_running_loop().create_future())
        self._queue_of(tenant_id).add(check)
        answer = await _uninterrupted(check.answer)
        if answer is None:
            return Invalid(reply=reply, complaint=f"The reply could not be checked within {self._seconds:g} s.")
        return judged_of(answer, reply)

    async def aclose(self) -> None:
        """End the children."""
        await self.usual.close()
        await self.slow.close()

    def _queue_of(self, tenant_id: TenantId) -> CheckQueue:
        if self._slow_until.get(tenant_id, 0.0) > self._clock():
            return self.slow
        self._slow_until.pop(tenant_id, None)
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
