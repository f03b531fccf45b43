"""Ends this process by SIGALRM unless its deadline is renewed in time.

A regular expression or any other long call in C holds the interpreter lock, so no Python thread can notice it. The
deadline is a timer of the kernel that calls C code: it writes the stacks of all threads to stderr (`faulthandler`) and
then ends the process by SIGALRM.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import time
from typing import Protocol

STDERR = 2
"""The descriptor itself, because a replacement of `sys.stderr` may have none."""

INIT_PID = 1
"""The first process of a container. The kernel drops every signal to it that would end it by default."""


class Deadline(Protocol):
    """A timer that ends the process unless it is set again in time."""

    def renew(self, seconds: int) -> None:
        """Restart the timer with this many seconds."""

    def cancel(self) -> None:
        """Stop the timer, so that a blocked loop no longer ends the process."""


class NoDeadline:
    """No timer, for `watchdog_seconds = 0`."""

    def renew(self, seconds: int) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Do nothing."""


class WallDeadline:
    """One timer over real time, for systems without POSIX timers (macOS).

    It runs on while the process is suspended, so a process that was suspended for longer ends when it continues.
    """

    def renew(self, seconds: int) -> None:
        """Restart the timer with this many seconds."""
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
    """Two timers in a row, so that a resumed process has the second one's time to renew.

    The first (`timer_create`, SIGEV_THREAD) calls `alarm(grace)` of the C library when it is *handled*, which is after
    a suspension and not during it. A single timer would expire during the suspension and end a healthy process.
    """

    GRACE_SHARE = 3
    """The second timer has a third of the time, but at least the one second that `alarm` can count."""

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
        """Restart both timers with this many seconds, which must exceed those of the second timer."""
        self._set(_TimerSetting(seconds=seconds - self._grace_seconds))

    def cancel(self) -> None:
        """Stop both timers."""
        self._set(self._none)

    def _set(self, setting: _TimerSetting) -> None:
        self._libc.timer_settime(self._timer, 0, ctypes.byref(setting), None)
        signal.setitimer(signal.ITIMER_REAL, 0)  # the one that `alarm` sets


def deadline_after(seconds: int) -> Deadline:
    """Return the deadline of this process, not yet running; 0 is none.

    Takes over SIGALRM, which no library of ours uses.
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
    """Reopen stderr so that writing never blocks: a full pipe may be what blocks the loop.

    If it cannot be reopened (a socket, another user's file, macOS), it is used as it is.
    """
    try:
        return os.open(
            f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
    except OSError:
        return STDERR
