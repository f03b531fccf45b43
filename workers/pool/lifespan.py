"""Keeps one async context of a worker process open from before its first task until after its last.

It waits for a store that is away and logs that once. A wrong setting is raised to the starter of the process.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, TypeVar

import structlog

from config.memory import keep_what_started
from schemas.errors import Unavailable

T = TypeVar("T")

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
"""Longest pause between two attempts to open, so that a restarted store is noticed soon."""


class Lifespan(Generic[T]):
    """Holds the value of the factory's context while `stay_open` runs."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._factory = factory
        self._open: list[T] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def value(self) -> T:
        """The open value. Raises RuntimeError when none is open; tasks run only while one is, so that is a bug."""
        if not self._open:
            raise RuntimeError("the lifespan is not open")
        return self._open[0]

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the loop, from another thread. It must log its own errors.

        Raises RuntimeError before the lifespan was opened.
        """
        if self._loop is None:
            work.close()
            raise RuntimeError("the lifespan is not open")
        asyncio.run_coroutine_threadsafe(work, self._loop)

    async def stay_open(self, opened: Callable[[], None], ending: asyncio.Event) -> None:
        """Open, call `opened`, and close when `ending` is set.

        Raises the factory's errors, except Unavailable and ConnectionError: then it tries again.
        """
        async with AsyncExitStack() as stack:
            self._loop = asyncio.get_running_loop()
            self._open.append(await self._entered(stack))
            keep_what_started()
            opened()
            try:
                await ending.wait()
            finally:
                self._open.clear()

    async def _entered(self, stack: AsyncExitStack) -> T:
        pause_seconds, waiting = FIRST_PAUSE_SECONDS, False
        while True:
            try:
                value = await stack.enter_async_context(self._factory())
            except (Unavailable, ConnectionError) as error:
                if not waiting:
                    log.warning("worker_waits_for_store", reason=str(error))
                waiting = True
            else:
                if waiting:
                    log.info("worker_has_store")
                return value
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
