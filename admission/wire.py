"""Sends scripts and commands to Redis over a few connections, and translates its errors.

Nothing is retried, because a lost reply may have been a grant. Only NOSCRIPT is sent again, because it proves that
nothing ran.
"""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from admission.scripts import Script
from schemas.errors import PenstockError, RedisUnavailable

Word: TypeAlias = str | int | bytes

MOST_PER_PIPELINE = 128
REFUSING = (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
"""Errors of a server that cannot serve; any other error reply is a bug."""
REFUSING_IN_WORDS = re.compile(r"(^|-)(BUSY|MISCONF|NOREPLICAS|READONLY|OOM|MASTERDOWN|CLUSTERDOWN)\b")
"""The same, where the client has no class or Redis 6.2 wraps it in a script's error."""


class ScriptFailed(PenstockError):  # noqa: N818 - reads as what happened
    """A Redis command was refused as wrong; this is a bug."""

    code = "script_failed"


@dataclass(eq=False, slots=True)
class _Call:
    arguments: tuple[Word, ...]
    answer: "asyncio.Future[Any]"
    script: Script | None = None
    reloaded: bool = False


class Wire:
    """Runs scripts and plain commands; belongs to the event loop of its first use."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = 2,
        timeout_seconds: float = 5.0,
        connect_timeout_seconds: float = 2.0,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=connect_timeout_seconds,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = Redis.from_pool(pool)
        self._connections = connections
        self._waiting: deque[_Call] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._woken = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for replies to what was sent, then disconnect."""
        await asyncio.gather(*self._senders)
        await self._redis.aclose()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:  # noqa: ANN401 - Redis types
        """Run a script. Raises RedisUnavailable, and ScriptFailed for a bug."""
        return await self._ask(("EVALSHA", script.sha, len(keys), *keys, *args), script)

    async def command(self, *arguments: Word) -> Any:  # noqa: ANN401 - the reply's type depends on the command
        """Run a command. Raises RedisUnavailable, and ScriptFailed for a bug."""
        return await self._ask(arguments, None)

    async def _ask(self, arguments: tuple[Word, ...], script: Script | None) -> Any:  # noqa: ANN401 - Redis types
        call = _Call(arguments, asyncio.get_running_loop().create_future(), script)
        self._waiting.append(call)
        if self._woken == 0 and len(self._senders) < self._connections:
            self._woken += 1
            self._senders.add(asyncio.create_task(self._send_waiting()))
        return await call.answer

    async def _send_waiting(self) -> None:
        """Leaves the set before answered callers run, so that an ended sender does not count as busy."""
        self._woken -= 1
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_PER_PIPELINE))]
                await self._send(batch)
        finally:
            self._senders.difference_update({asyncio.current_task()})

    async def _send(self, batch: list[_Call]) -> None:
        try:
            replies = await self._pipeline(batch)
        except (RedisError, OSError) as error:
            for call in batch:
                _fail(call, RedisUnavailable(f"Redis cannot be asked: {error or type(error).__name__}"))
            return
        except BaseException:
            for call in batch:
                call.answer.cancel()
            raise
        for call, reply in zip(batch, replies, strict=True):
            self._deliver(call, reply)

    async def _pipeline(self, batch: list[_Call]) -> list[Any]:
        lacking = {call.script.sha: call.script for call in batch if call.script and call.reloaded}
        async with self._redis.pipeline(transaction=False) as pipe:
            for script in lacking.values():
                pipe.execute_command("SCRIPT LOAD", script.source)
            for call in batch:
                pipe.execute_command(*call.arguments)
            replies = await pipe.execute(raise_on_error=False)
        return list(replies[len(lacking) :])

    def _deliver(self, call: _Call, reply: object) -> None:
        if isinstance(reply, NoScriptError) and not call.reloaded:
            call.reloaded = True
            self._waiting.appendleft(call)
        elif isinstance(reply, Exception):
            _fail(call, _translated(reply))
        elif not call.answer.done():
            call.answer.set_result(reply)


def _fail(call: _Call, error: PenstockError) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)


def _translated(error: Exception) -> PenstockError:
    text = str(error)
    if isinstance(error, REFUSING) or not isinstance(error, ResponseError) or REFUSING_IN_WORDS.search(text):
        return RedisUnavailable(f"Redis cannot serve: {text}")
    return ScriptFailed(text)
