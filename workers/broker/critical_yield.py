"""Leaves critical messages to idle processes while this one is busy with other lanes.

BRPOP serves the longest-waiting client, even a busy one, which made one critical job in four take half as long again. A
busy process asks for critical messages only when one is queued, because then no process was free.
"""

from collections.abc import Callable, Sequence

from schemas.lanes import Lane

LOOK_SECONDS = 0.025
"""Longest wait of a critical message while all processes are busy."""

LOWER = frozenset({Lane.NORMAL, Lane.LOW})
"""Only processes that serve one of these lanes yield."""


class CriticalYield:
    """Filters open lanes, and calls `wake` to ask for an omitted one. Consumer thread only."""

    def __init__(
        self,
        open_lanes: Callable[[Sequence[Lane]], Sequence[Lane]],
        *,
        is_busy: Callable[[], bool],
        lying: Callable[[], int],
        wake: Callable[[], object],
    ) -> None:
        self._open_lanes, self._is_busy, self._lying, self._wake = open_lanes, is_busy, lying, wake
        self._leaves_it = self._helps = False

    def open_lanes(self, lanes: Sequence[Lane]) -> Sequence[Lane]:
        """Return the lanes to ask, in the same order."""
        free = self._open_lanes(lanes)
        self._leaves_it = Lane.CRITICAL in free and not LOWER.isdisjoint(lanes) and not self._helps and self._is_busy()
        return [lane for lane in free if lane is not Lane.CRITICAL] if self._leaves_it else free

    def look(self) -> None:
        """Check for queued critical messages. Call it every LOOK_SECONDS."""
        if not (self._leaves_it or self._helps):
            return
        self._helps = self._lying() > 0
        if self._helps and self._leaves_it:
            self._wake()
