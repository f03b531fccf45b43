"""Leaves critical messages to idle processes while this one is busy with other lanes.

BRPOP serves the longest-waiting client, even a busy one. A process with hundreds of lower-lane jobs in flight, which
the machine may also schedule last, made one critical job in four take half as long again on two cores. So a busy
process asks for critical messages only when it sees one queued: then no other process was free.
"""

from collections.abc import Callable, Sequence

from schemas.lanes import Lane

LOOK_SECONDS = 0.025
"""Longest that a critical message waits where all processes are busy with other lanes."""

LOWER = frozenset({Lane.NORMAL, Lane.LOW})
"""Only processes that serve one of these lanes yield critical messages."""


class CriticalYield:
    """Filters the lanes that the slots allow. Calls `wake` when the lane that it left out must be asked.

    Used by the consumer thread alone.
    """

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
        """Return the lanes to ask, in the given order."""
        found = self._open_lanes(lanes)
        self._leaves_it = Lane.CRITICAL in found and not LOWER.isdisjoint(lanes) and not self._helps and self._is_busy()
        return [lane for lane in found if lane is not Lane.CRITICAL] if self._leaves_it else found

    def look(self) -> None:
        """Check whether critical messages are queued at the broker. Call it every LOOK_SECONDS."""
        if not (self._leaves_it or self._helps):
            return
        self._helps = self._lying() > 0
        if self._helps and self._leaves_it:
            self._wake()
