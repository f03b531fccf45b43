"""Runs a call's time-outs on one timer: first byte, between chunks, total.

Only the total runs while a listener is served, because a slow listener is no silent provider.
"""

import asyncio


class Patience:
    """The time-outs of one call; its `timer` is an async context that raises TimeoutError."""

    def __init__(self, *, first_byte_seconds: float, between_chunks_seconds: float, total_seconds: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._between_seconds = between_chunks_seconds
        self.started_at = self._clock()
        self.total_seconds = total_seconds
        self._ends_at = self.started_at + total_seconds
        self._total_reason = f"The call was not finished within {total_seconds:.3g} s."
        self._silence = f"Silence of {between_chunks_seconds:.3g} s between chunks."
        self._reason = f"Nothing came within {first_byte_seconds:.3g} s of sending."
        self.timer = asyncio.timeout_at(min(self.started_at + first_byte_seconds, self._ends_at))

    @property
    def reason(self) -> str:
        """Message of the fired time-out."""
        return self._total_reason if self._clock() >= self._ends_at else self._reason

    def elapsed_ms(self) -> int:
        """Milliseconds since just before the request was sent."""
        return round((self._clock() - self.started_at) * 1_000)

    def for_next_chunk(self) -> None:
        """Restart the time-out between chunks."""
        self._reason = self._silence
        self._wait_until(self._clock() + self._between_seconds)

    def for_listener(self) -> None:
        """Run only the total time-out while a listener is served."""
        self._wait_until(self._ends_at)

    def for_the_rest(self, seconds: float) -> None:
        """Wait this long for the connection to end."""
        self._wait_until(self._clock() + seconds)

    def _wait_until(self, moment: float) -> None:
        self.timer.reschedule(min(moment, self._ends_at))
