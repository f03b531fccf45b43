"""Runs Celery's tasks on one asyncio loop. Selected by `worker_pool`.

    main thread: kombu's hub: BRPOP, acknowledgements, events, control; owns all of Celery's state
    loop thread: one asyncio task per message, and the process's lifespan

Celery's time limits are ignored: the pipeline keeps deadlines. Messages cancelled at a stop get no answer, so that
Celery requeues them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Event
from typing import Any, Protocol, TypeAlias

import structlog
from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import Terminated
from celery.worker import state

from config.exit_codes import ExitCode
from tasks.startup import SETTING_ERRORS
from workers.pool.bridge import drive
from workers.pool.lifespan import Lifespan
from workers.pool.loop_thread import LoopThread
from workers.pool.slots import Slots

log = structlog.get_logger()

WAIT_SECONDS = 0.1
"""Longest single wait of the main thread, so that it still notices signals."""

CANCEL_SECONDS = 5.0
"""How long cancelled tasks may take to clean up."""


Answer: TypeAlias = Callable[[Any], object]


class PoolApp(Protocol):
    """Attributes of the Celery app that the pool uses."""

    lifespan: Lifespan[Any]
    slots: Slots
    drain_grace_seconds: float
    watchdog_seconds: int

    def observe_loop_delay(self, seconds: float) -> None:
        """Record one delay of the loop."""


@dataclass(eq=False)
class Running:
    """One message in the pool. Celery keeps a weak reference and calls `terminate`."""

    pid: int
    target: Callable[..., Any]
    args: tuple[Any, ...]
    callback: Answer | None
    error_callback: Answer | None
    task: asyncio.Task[Any] | None = None
    begun: bool = False
    terminated: bool = False
    silent: bool = False

    def terminate(self, signal: object = None) -> None:
        """Do nothing: `terminate_job` was called already."""


class TaskPool(BasePool):  # type: ignore[misc]  # Celery ships no types
    """The pool. Methods run in the main thread unless a comment says otherwise."""

    signal_safe = False
    body_can_be_buffer = True
    task_join_will_block = True
    app: PoolApp
    limit: int

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._running: dict[int, Running] = {}
        self._pids = count(1)
        self._inbox: deque[Running] = deque()
        self._outbox: deque[tuple[Running, Any]] = deque()
        self._at_work = 0
        self._wakes_loop = self._wakes_hub = False
        self._one_ended = Event()
        self._hub: Any = None
        self._thread: LoopThread | None = None
        self._stopping = self._hurried = False
        self._shutdown_signals = 0

    @property
    def _loop_thread(self) -> LoopThread:
        if self._thread is None:
            raise RuntimeError("the pool is not started")
        return self._thread

    def on_start(self) -> None:
        """Open the lifespan first. Raises SystemExit for a wrong setting."""
        self._thread = LoopThread(
            self.app.lifespan, self.app.observe_loop_delay, watchdog_seconds=self.app.watchdog_seconds
        )
        signals.worker_shutting_down.connect(self._on_shutdown_signal)
        self._thread.start()
        try:
            while not self._thread.wait_open(WAIT_SECONDS):
                state.maybe_shutdown()
        except SETTING_ERRORS as error:
            log.critical("worker_refuses_to_start", reason=str(error))
            raise SystemExit(ExitCode.REFUSED_SETTING) from None
        except SystemExit:
            self._thread.stop()
            raise

    def register_with_event_loop(self, hub: Any) -> None:  # noqa: ANN401 - kombu's Hub
        """Keep the hub. A reconnect calls it again and may lose pending callbacks."""
        self._hub, self._wakes_hub = hub, True
        hub.call_soon(self._drain)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,  # noqa: ARG002 - the tracer takes none
        *,
        callback: Answer | None = None,
        accept_callback: Callable[[int, float], object] | None = None,
        error_callback: Answer | None = None,
        **_: object,
    ) -> Running:
        """Pass a message to the loop. `target` is Celery's tracer."""
        running = Running(next(self._pids), target, tuple(args), callback, error_callback)
        self._running[running.pid] = running
        if accept_callback is not None:
            accept_callback(running.pid, time.monotonic())
        self.app.slots.hand_over()
        self._inbox.append(running)
        self._wake_loop()
        return running

    def terminate_job(self, pid: int, signal: object = None) -> None:  # noqa: ARG002 - there is no process to signal
        """Cancel one message, if it still runs."""
        running = self._running.get(pid)
        if running is not None:
            running.terminated = True
            self._loop_thread.loop.call_soon_threadsafe(self._cancel, running)

    def on_stop(self) -> None:
        """Let messages end within the grace, then cancel them.

        A second signal ends the grace, even one before this call.
        """
        self._end(self.app.drain_grace_seconds)

    def on_terminate(self) -> None:
        """Cancel all messages at once."""
        self._end(0)

    def _on_shutdown_signal(self, how: str = "", **_: object) -> None:
        self._shutdown_signals += 1
        self._hurried = self._shutdown_signals > 1 or how == "Cold"

    def _end(self, grace_seconds: float) -> None:
        if self._stopping or self._thread is None:
            return
        self._stopping = True
        self._wait_for_all(grace_seconds, until=lambda: self._hurried)
        if self._running:
            log.warning("drain_timed_out", messages=len(self._running))
            self._thread.loop.call_soon_threadsafe(self._cancel_all)
            self._wait_for_all(CANCEL_SECONDS)
        self._thread.stop()

    def _wait_for_all(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        give_up_at = time.monotonic() + seconds
        while self._running and not until() and time.monotonic() < give_up_at:
            self._one_ended.wait(WAIT_SECONDS)
            self._one_ended.clear()
            self._drain()

    def _wake_loop(self) -> None:
        if not self._wakes_loop:
            self._wakes_loop = True
            self._loop_thread.loop.call_soon_threadsafe(self._spawn)

    # The loop thread

    def _spawn(self) -> None:
        self._wakes_loop = False
        while self._inbox and self._at_work < self.limit:
            running = self._inbox.popleft()
            self._at_work += 1
            running.task = self._loop_thread.loop.create_task(
                drive(running.target, running.args, partial(self._begin, running)), context=Context()
            )
            running.task.add_done_callback(partial(self._ended, running))
            if running.terminated:
                running.task.cancel()

    def _begin(self, running: Running) -> None:
        running.begun, loop = True, self._loop_thread.loop
        loop.call_soon(loop.call_soon, self.app.slots.begin)  # after the first step of the jobs of its slice

    def _ended(self, running: Running, task: asyncio.Task[Any]) -> None:
        self._at_work -= 1
        if not running.begun:
            self.app.slots.begin()
        self._outbox.append((running, _result(task)))
        self._one_ended.set()
        self._wake_hub()
        if self._inbox:
            self._spawn()

    def _cancel(self, running: Running) -> None:
        if running.task is not None:
            running.task.cancel()

    def _cancel_all(self) -> None:
        for running in tuple(self._running.values()):
            running.silent = running.terminated = True
            self._cancel(running)
        self._spawn()

    def _wake_hub(self) -> None:
        if self._hub is not None and not self._wakes_hub:
            self._wakes_hub = True
            self._hub.call_soon(self._drain)

    # The main thread again

    def _drain(self) -> None:
        self._wakes_hub = False
        while self._outbox:
            running, result = self._outbox.popleft()
            self._running.pop(running.pid, None)
            if not running.silent:
                self._answer(running, result)

    def _answer(self, running: Running, result: Any) -> None:  # noqa: ANN401 - the tracer's triple or ExceptionInfo
        answer = running.error_callback if isinstance(result, ExceptionInfo) else running.callback
        try:
            if answer is not None:
                answer(result)
        except Exception:  # a process loop: one message's bookkeeping must not stop the others
            log.exception("pool_callback_failed", pid=running.pid)

    def grow(self, n: int = 1) -> None:
        """Raise the number of concurrent messages."""
        self.limit += n

    def shrink(self, n: int = 1) -> None:
        """Lower the number of concurrent messages, to 1 at least; running ones continue."""
        self.limit = max(1, self.limit - n)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": len(self._running), "slots": self.app.slots.in_use, "processes": []}


def _result(task: asyncio.Task[Any]) -> Any:  # noqa: ANN401 - the tracer's triple, or ExceptionInfo
    try:
        return task.result()
    except asyncio.CancelledError:
        return _traced(Terminated("cancelled"))
    except BaseException as error:  # noqa: BLE001 - an error beyond the tracer ends its message, not the loop
        return _traced(error)


def _traced(error: BaseException) -> ExceptionInfo:
    try:
        raise error  # noqa: TRY301 - billiard reads the traceback of the handled error
    except BaseException:  # noqa: BLE001 - nothing else is raised here
        return ExceptionInfo()
