"""Keeps an async context open while a worker process runs tasks."""

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
"""Longest pause between attempts to open."""


class Lifespan(Generic[T]):
    """Holds the context's value while `stay_open` runs."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._factory = factory
        self._open: list[T] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def value(self) -> T:
        """The open value. Raises RuntimeError outside of `stay_open`."""
        if not self._open:
            raise RuntimeError("the lifespan is not open")
        return self._open[0]

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine from another thread. It must log its errors. Raises RuntimeError before opening."""
        if self._loop is None:
            work.close()
            raise RuntimeError("the lifespan is not open")
        asyncio.run_coroutine_threadsafe(work, self._loop)

    async def stay_open(self, opened: Callable[[], None], ending: asyncio.Event) -> None:
        """Open, call `opened`, and close at `ending`.

        Retries on Unavailable and ConnectionError; raises the factory's other errors.
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
