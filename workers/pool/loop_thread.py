"""Runs a worker process's event loop in a thread. Only the owning thread calls its methods."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

import structlog

from config.watchdog import watched
from workers.pool.lifespan import Lifespan

log = structlog.get_logger()

CLOSE_SECONDS = 10.0
"""Limit for closing the lifespan; then the process ends, and the stores recover."""


class LoopThread:
    """The loop and its thread, which start once."""

    def __init__(
        self, lifespan: Lifespan[Any], observe_delay: Callable[[float], object], *, watchdog_seconds: int
    ) -> None:
        self._lifespan = lifespan
        self._watchdog_seconds = watchdog_seconds
        self._observe_delay = observe_delay
        self._opened: Future[None] = Future()
        self._ending = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._thread = Thread(target=self._run, name="penstock-loop", daemon=True)
        self.loop = asyncio.new_event_loop()

    def start(self) -> None:
        """Start the thread and return at once."""
        self._thread.start()

    def wait_open(self, seconds: float) -> bool:
        """Wait for the lifespan; False if not open in time. Raises its error."""
        try:
            self._opened.result(seconds)
        except TimeoutError:
            if self._opened.done():  # the lifespan's own TimeoutError
                raise
            return False
        return True

    def stop(self) -> bool:
        """Close the lifespan and end the thread; False after CLOSE_SECONDS. Safe to call twice."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._end)
            self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("loop_did_not_end", waited_seconds=CLOSE_SECONDS)
            return False
        return True

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            try:
                runner.run(self._live())
            except asyncio.CancelledError:
                self._opened.cancel()
            except BaseException as error:  # passed to the thread that waits, or logged here
                if self._opened.done():
                    log.exception("lifespan_failed")
                else:
                    self._opened.set_exception(error)

    async def _live(self) -> None:
        self._main = asyncio.current_task()
        async with watched(self._watchdog_seconds, self._observe_delay) as watchdog:

            def opened() -> None:
                watchdog.has_started()
                self._opened.set_result(None)

            await self._lifespan.stay_open(opened, self._ending)

    def _end(self) -> None:
        if self._opened.done():
            self._ending.set()
        elif self._main is not None:
            self._main.cancel()
