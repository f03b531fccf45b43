"""Watches one event loop: measures its delays, and ends the process when it stands still.

A matching regular expression or any other long call in C holds the interpreter lock, so no Python thread can notice it.
The deadline is a timer of the kernel, and what it calls is C code: it writes the stacks of all threads to stderr
(`faulthandler`) and then ends the process by SIGALRM.
"""

import asyncio
import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol

import structlog

log = structlog.get_logger()

TICK_SECONDS = 0.1
ALARM_SECONDS = 0.25
"""A delay that a critical job would notice."""

SILENCE_SECONDS = 5.0
"""Between two alarms: a loop that is overloaded for minutes is one story, not a thousand lines."""

STARTING_SECONDS = 60
"""Until a process has started its loop may stand still for so long: libraries are loaded on it, on a cold disk too."""

STDERR = 2
"""The descriptor itself: what replaces `sys.stderr` may have none."""

INIT_PID = 1
"""The first process of a container. The kernel drops every signal to it that would end it by default."""


class Alarm:
    """Says that the loop is late, but not more often than every few seconds, and then with the worst since."""

    def __init__(self) -> None:
        self._worst_seconds = 0.0
        self._quiet_until = 0.0

    def hear(self, delay_seconds: float, now_seconds: float) -> bool:
        """Take note of one delay; returns whether it was said aloud."""
        self._worst_seconds = max(self._worst_seconds, delay_seconds)
        if self._worst_seconds < ALARM_SECONDS or now_seconds < self._quiet_until:
            return False
        log.warning("loop_delayed", worst_ms=round(self._worst_seconds * 1000))
        self._worst_seconds, self._quiet_until = 0.0, now_seconds + SILENCE_SECONDS
        return True


class Deadline(Protocol):
    """A timer that ends the process unless it is set again in time."""

    def renew(self, seconds: int) -> None:
        """Start the time anew, with so much of it."""

    def cancel(self) -> None:
        """Let the process live, however long its loop stands still."""


class NoDeadline:
    """What `watchdog_seconds = 0` asks for."""

    def renew(self, seconds: int) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Do nothing."""


class WallDeadline:
    """One timer over the whole time, for systems without POSIX timers (macOS).

    It goes on while the process is suspended: one that was suspended for longer ends when it is continued.
    """

    def renew(self, seconds: int) -> None:
        """Start the time anew, with so much of it."""
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def cancel(self) -> None:
        """Stop the timer."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class _SignalEvent(ctypes.Structure):
    """`struct sigevent` of Linux, 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal_number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * 32),
    )


class _TimerSetting(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = tuple(
        (name, ctypes.c_long) for name in ("interval_seconds", "interval_nanoseconds", "seconds", "nanoseconds")
    )


class SuspensionSafeDeadline:
    """Two timers in a row, so that a process that was suspended has the second one's time to turn its loop.

    The first (`timer_create`, SIGEV_THREAD) calls `alarm(grace)` of the C library when it is *handled*, which is after
    a suspension and not in it. A single timer would have run out meanwhile and end a healthy process.
    """

    GRACE_SHARE = 3
    """The second timer has a third of the time, at least the one second that `alarm` can count."""

    def __init__(self, seconds: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._grace_seconds = max(1, seconds // self.GRACE_SHARE)
        call_alarm = _SignalEvent(
            value=self._grace_seconds,
            notify=2,  # SIGEV_THREAD
            function=ctypes.cast(self._libc.alarm, ctypes.c_void_p).value,
        )
        self._timer = ctypes.c_void_p()
        if self._libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(call_alarm), ctypes.byref(self._timer)) != 0:
            raise OSError(ctypes.get_errno(), "timer_create")
        self._none = _TimerSetting()

    def renew(self, seconds: int) -> None:
        """Start the time anew, with so much of it; more than the second timer has."""
        self._set(_TimerSetting(seconds=seconds - self._grace_seconds))

    def cancel(self) -> None:
        """Stop both timers."""
        self._set(self._none)

    def _set(self, setting: _TimerSetting) -> None:
        self._libc.timer_settime(self._timer, 0, ctypes.byref(setting), None)
        signal.setitimer(signal.ITIMER_REAL, 0)  # the one that `alarm` sets


def deadline_after(seconds: int) -> Deadline:
    """The deadline of this process, not yet running; 0 is none. Takes over SIGALRM, which no library of ours uses."""
    if seconds == 0:
        return NoDeadline()
    libc = ctypes.CDLL(None)
    exits = ctypes.cast(libc._exit, ctypes.c_void_p)  # noqa: SLF001 - the C function
    faulthandler.unregister(signal.SIGALRM)
    libc.signal(signal.SIGALRM, exits if os.getpid() == INIT_PID else ctypes.c_void_p(signal.SIG_DFL.value))
    faulthandler.register(signal.SIGALRM, file=_stack_descriptor(), all_threads=True, chain=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    return SuspensionSafeDeadline(seconds) if sys.platform == "linux" else WallDeadline()


def _stack_descriptor() -> int:
    """Stderr opened once more so that writing to it never blocks: a full pipe may be what the loop hangs on.

    Where it cannot be opened again (a socket, somebody else's file, macOS), it is used as it is.
    """
    try:
        return os.open(
            f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
    except OSError:
        return STDERR


class Watchdog:
    """How long the loop may stand still now."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self.seconds = max(seconds, STARTING_SECONDS)

    def has_started(self) -> None:
        """Be strict from now on: what takes long at the start is done."""
        self.seconds = self._seconds


async def watch(observe: Callable[[float], object], watchdog: Watchdog, deadline: Deadline) -> NoReturn:
    """Measure the running loop's delay at every tick, and renew the deadline, until cancelled.

    `observe` gets seconds.
    """
    loop, alarm = asyncio.get_running_loop(), Alarm()
    try:
        while True:
            deadline.renew(watchdog.seconds)
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            delay_seconds = max(0.0, loop.time() - due)
            observe(delay_seconds)
            alarm.hear(delay_seconds, loop.time())
    finally:
        deadline.cancel()


def _note_nothing(_seconds: float) -> None:
    """Observe for a process that has no metrics."""


@asynccontextmanager
async def watched(seconds: int, observe: Callable[[float], object] = _note_nothing) -> AsyncIterator[Watchdog]:
    """Watch the running loop while the block runs. The process ends by SIGALRM when the loop stands still for so long.

    It does so once the block has said that the process has started. One per process: the timer and the signal are the
    process's.
    """
    watchdog = Watchdog(seconds)
    watching = asyncio.create_task(watch(observe, watchdog, deadline_after(seconds)), name="watchdog")
    try:
        yield watchdog
    finally:
        watching.cancel()
        await asyncio.wait([watching])
