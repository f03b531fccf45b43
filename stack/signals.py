"""Wakes the supervisor on stop signals and ends of children. Main thread only."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READ_BYTES = 4_096


class SignalWaiter:
    """Counts stop signals and interrupts waits, so that none is missed between checks."""

    def __init__(self) -> None:
        self.stops_requested = 0
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    @classmethod
    @contextmanager
    def installed(cls) -> Iterator["SignalWaiter"]:
        """Handle the stop signals and SIGCHLD until the end of the block."""
        waiter = cls()
        handlers = {number: signal.signal(number, waiter._on_stop) for number in STOP_SIGNALS}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, waiter._on_child)
        before = signal.set_wakeup_fd(waiter._writer, warn_on_full_buffer=False)
        try:
            yield waiter
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(waiter._reader)
            os.close(waiter._writer)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes or the time is over."""
        ready, _, _ = select.select([self._reader], [], [], max(seconds, 0.0))
        if ready:
            os.read(self._reader, READ_BYTES)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops_requested += 1

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        """Make Python write to the wake-up descriptor, which needs a handler."""
