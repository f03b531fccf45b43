"""A process that is busy with other lanes leaves critical messages to one that is not.

A broker gives a message to whoever has waited longest, whatever he does beside. A process with hundreds of jobs of
lower lanes in flight, which its machine may rank below the others too, made each fourth critical job half as slow again
on two cores. So it asks for critical messages only while one lies at the broker when it looks: then nobody else was
free.
"""

from collections.abc import Callable, Sequence

from schemas.lanes import Lane

LOOK_SECONDS = 0.025
"""The longest that a critical message waits where every process is busy with other lanes."""

LOWER = frozenset({Lane.NORMAL, Lane.LOW})
"""Who serves one of these serves everybody; processes for urgent lanes alone leave nothing to others."""


class CriticalYield:
    """Stands before the slots' answer which lanes to ask. `wake` is called when a lane that it left out is to be asked.

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
        """The lanes to ask, in the order given."""
        found = self._open_lanes(lanes)
        self._leaves_it = Lane.CRITICAL in found and not LOWER.isdisjoint(lanes) and not self._helps and self._is_busy()
        return [lane for lane in found if lane is not Lane.CRITICAL] if self._leaves_it else found

    def look(self) -> None:
        """See whether critical messages lie at the broker; to be called every LOOK_SECONDS."""
        if not (self._leaves_it or self._helps):
            return
        self._helps = self._lying() > 0
        if self._helps and self._leaves_it:
            self._wake()
