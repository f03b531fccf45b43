"""Checks large replies in child processes that can be given up, fairly between tenants.

Two children at most, started when needed and ended when idle. A tenant whose check was given up is served by the
second one for a while, so that the next such check keeps nobody else waiting.
"""

import asyncio
import os
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from config.environment import PYTHON_NEEDS
from providers.check_child import LENGTH, judged_of, request_of
from providers.validation import TOO_DEEP
from schemas.ids import TenantId
from schemas.jsons import JsonObject
from schemas.outcome import Invalid, Judged
from schemas.reply import Reply

log = structlog.get_logger()

CHECK_SECONDS = 2.0
"""How long one check may take; honest ones take milliseconds."""

START_SECONDS = 20.0
"""How long a child may take to start, on a machine that is busy."""

IDLE_SECONDS = 60.0
"""A child takes 30 MB: it is ended after so long without a check."""

SLOW_TENANT_SECONDS = 600.0
"""How long a tenant is served by the second child after a check of it was given up."""

LONGEST_WAIT_SECONDS = 10.0
"""How long a check waits for the second child before it is given up: its job holds a slot meanwhile."""

MAX_DEATHS = 2
"""A check is given up when so many children have died of it; the first may have been killed by somebody else."""

WAITED = "waited"


class ChildDiedError(Exception):
    """The child ended before it answered."""


@dataclass(eq=False, slots=True)
class Check:
    """One reply that waits for its verdict. A result of None is a check that was given up."""

    tenant_id: TenantId
    request: bytes
    since: float
    answer: asyncio.Future[bytes | None]
    deaths: int = 0


class Child:
    """One child process, started at its first question; answers one question at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The running child's; None where there is none."""
        return None if self._process is None else self._process.pid

    async def ask(self, request: bytes) -> bytes:
        """The child's answer. Raises TimeoutError and ChildDiedError; the next question starts another child."""
        try:
            process = self._process or await self._started()
            return await asyncio.wait_for(self._exchange(process, request), self._seconds)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self.end()
            if isinstance(error, TimeoutError):
                raise
            raise ChildDiedError from error
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        """Kill the child, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()

    async def _started(self) -> asyncio.subprocess.Process:
        """A child that has answered once: what it takes to start counts for no check. Raises ChildDiedError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "providers.check_child",
            str(self._seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a traceback could show what a model wrote
            env={name: os.environ[name] for name in PYTHON_NEEDS if name in os.environ},
        )
        self._process = process
        try:
            await asyncio.wait_for(self._exchange(process, _HELLO), START_SECONDS)
        except TimeoutError:
            await self.end()
            raise ChildDiedError from None
        log.info("check_process_started", pid=process.pid)
        return process

    async def _exchange(self, process: asyncio.subprocess.Process, request: bytes) -> bytes:
        assert process.stdin is not None  # noqa: S101 - both are pipes, see above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(LENGTH.pack(len(request)))
        process.stdin.write(request)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return await process.stdout.readexactly(length)


@dataclass(eq=False)
class CheckQueue:
    """Checks that wait for one child, in turn by tenant."""

    child: Child
    clock: Callable[[], float]
    on_slow: Callable[[TenantId], None]
    idle_seconds: float
    longest_wait_seconds: float | None = None
    _waiting: OrderedDict[TenantId, deque[Check]] = field(default_factory=OrderedDict)
    _serving: asyncio.Task[None] | None = None
    _retirement: asyncio.TimerHandle | None = None

    def add(self, check: Check) -> None:
        """Let a check wait its turn."""
        self._waiting.setdefault(check.tenant_id, deque()).append(check)
        if self._serving is None:
            if self._retirement is not None:
                self._retirement.cancel()
            self._serving = asyncio.create_task(self._serve())

    def remove(self, tenant_id: TenantId) -> list[Check]:
        """Take the waiting checks of a tenant out."""
        return list(self._waiting.pop(tenant_id, ()))

    async def close(self) -> None:
        """End the child; who still waits is cancelled."""
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
            except BaseException as error:  # a bug, or the end of this process: who waits must learn of it
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


class Checks:
    """The way to the children. Everything belongs to the event loop of the first check."""

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
        """The verdict on a reply; Invalid where it could not be found within the time.

        A cancellation that comes meanwhile is raised at the caller's next step: the reply is paid for, and is to be
        written down first.
        """
        try:
            request = request_of(reply, schema)
        except RecursionError:
            return Invalid(reply=reply, complaint=TOO_DEEP)
        check = Check(tenant_id, request, self._clock(), asyncio.get_running_loop().create_future())
        self._queue(tenant_id).add(check)
        answer = await _uninterrupted(check.answer)
        if answer is None:
            complaint = f"The reply could not be checked within {self._seconds:g} s."
            return Invalid(reply=reply, complaint=complaint)
        return judged_of(answer, reply)

    async def aclose(self) -> None:
        """End the children."""
        await self.usual.close()
        await self.slow.close()

    def _queue(self, tenant_id: TenantId) -> CheckQueue:
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


_HELLO = request_of(
    Reply(
        body={"choices": [{"message": {"content": "{}"}}]},
        text="{}",
        finish_reason=None,
        refusal=None,
        usage=None,
        model="",
    ),
    {},
)
"""A question whose answer says that the child has started."""
