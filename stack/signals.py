"""Wakes the supervisor on stop signals and ends of children. Main thread only."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READ_BYTES = 4_096


class Bell:
    """Counts stop signals and interrupts waits, so that none is missed between checks."""

    def __init__(self) -> None:
        self.stops_asked = 0
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    @classmethod
    @contextmanager
    def installed(cls) -> Iterator["Bell"]:
        """Handle the stop signals and SIGCHLD until the end of the block."""
        bell = cls()
        handlers = {wish: signal.signal(wish, bell._on_stop) for wish in STOP_SIGNALS}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, bell._on_child)
        before = signal.set_wakeup_fd(bell._writer, warn_on_full_buffer=False)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(before)
            for wish, handler in handlers.items():
                signal.signal(wish, handler)
            os.close(bell._reader)
            os.close(bell._writer)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes or the time is over."""
        ready, _, _ = select.select([self._reader], [], [], max(seconds, 0.0))
        if ready:
            os.read(self._reader, READ_BYTES)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops_asked += 1

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        """Make Python write to the wake-up descriptor, which needs a handler."""
