"""Runs coroutine tasks under Celery's synchronous tracer.

    loop:  drive ──switch──▶ greenlet: tracer ─▶ AsyncTask.__call__ ──switch(coroutine)──▶ drive awaits it
                             greenlet: tracer ◀──────── value or exception ◀────────────── drive

The coroutine runs in the driver, where Celery's request stack is empty, so a context variable holds the request.
"""

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from celery import Task
from greenlet import getcurrent, greenlet

_own_request: ContextVar[Any] = ContextVar("celery_request", default=None)


class AsyncTask(Task):  # type: ignore[misc]  # Celery ships no types
    """A task whose `run` is a coroutine function. Runs on our pool only."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the message carried
        """Pass the coroutine to the driver. Raises RuntimeError outside our pool."""
        driver = getcurrent().parent
        if driver is None:
            raise RuntimeError(
                f"{self.name} is a coroutine: it needs workers.pool.pool:TaskPool (no -P, no eager mode)"
            )
        _own_request.set(self.request_stack.top)
        return driver.switch(self.run(*args, **kwargs))

    @property
    def request(self) -> Any:  # noqa: ANN401 - Celery's Context
        """The request of this call, also inside the coroutine."""
        return _own_request.get() or self._get_request()


async def drive(target: Callable[..., Any], args: tuple[Any, ...], begun: Callable[[], None]) -> Any:  # noqa: ANN401 - the tracer's
    """Run the tracer and return its result; call `begun` when the coroutine exists.

    Cancelling cancels the coroutine, runs the tracer's `finally` blocks and raises CancelledError. A coroutine that
    cancels itself has failed.
    """
    tracer = greenlet(target)
    tracer.gr_context = getcurrent().gr_context
    coroutine = tracer.switch(*args)
    begun()
    if tracer.dead:  # the message did not reach its task
        return coroutine
    try:
        value = await coroutine
    except asyncio.CancelledError as cancelled:
        if was_cancelled():
            tracer.throw()
            raise
        return tracer.throw(RuntimeError, RuntimeError("cancelled from within"), cancelled.__traceback__)
    except BaseException:  # noqa: BLE001 - the tracer decides, as if the task had raised it
        return tracer.throw(*sys.exc_info())
    return tracer.switch(value)


def was_cancelled() -> bool:
    """Whether the current task was cancelled from outside, not by its own coroutine."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
