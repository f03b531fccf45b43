"""Ends this process by SIGALRM unless its deadline is renewed in time.

A long call in C holds the interpreter lock, so no Python thread could notice. The deadline is a kernel timer that
writes all stacks to stderr first (`faulthandler`).
"""

import ctypes
import faulthandler
import os
import signal
import sys
import time
from typing import TypeAlias

STDERR = 2
"""The descriptor, because a replaced `sys.stderr` may have none."""

INIT_PID = 1
"""First process of a container; the kernel drops signals that would end it by default."""


class NoDeadline:
    """No timer, for `watchdog_seconds = 0`."""

    def renew(self, seconds: int) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Do nothing."""


class WallDeadline:
    """One timer over real time, for systems without POSIX timers (macOS).

    It runs on during a suspension, so a long-suspended process ends when it continues.
    """

    def renew(self, seconds: int) -> None:
        """Restart the timer."""
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
    _fields_ = tuple(
        (name, ctypes.c_long) for name in ("interval_seconds", "interval_nanoseconds", "seconds", "nanoseconds")
    )


class SuspensionSafeDeadline:
    """Two timers in a row, so that a resumed process has the second's time to renew.

    A single timer would expire during a suspension. The first (SIGEV_THREAD) calls `alarm(grace)` after it.
    """

    GRACE_SHARE = 3
    """A third of the time, but at least the second that `alarm` can count."""

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

    def renew(self, seconds: int) -> None:
        """Restart both timers; `seconds` must exceed the second timer's."""
        self._set(seconds - self._grace_seconds)

    def cancel(self) -> None:
        """Stop both timers."""
        self._set(0)

    def _set(self, seconds: int) -> None:
        self._libc.timer_settime(self._timer, 0, ctypes.byref(_TimerSetting(seconds=seconds)), None)
        signal.setitimer(signal.ITIMER_REAL, 0)  # the one that `alarm` sets


Deadline: TypeAlias = NoDeadline | WallDeadline | SuspensionSafeDeadline
"""A timer that ends the process unless renewed."""


def deadline_after(seconds: int) -> Deadline:
    """Return this process's deadline, not yet running; 0 is none.

    Takes over SIGALRM.
    """
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
    """Reopens stderr where possible, so that a full pipe cannot block."""
    try:
        return os.open(
            f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
    except OSError:
        return STDERR
