"""Orders the lanes of each BRPOP by urgency, with turns that keep lower lanes from starving.

kombu calls `update` with the queues of `-Q`, `consume` before each BRPOP and `rotate` after each message.
"""

from collections.abc import Callable, Sequence

from schemas.lanes import Lane

TURNS = {Lane.HIGH: 5, Lane.NORMAL: 20, Lane.LOW: 80}
"""A lane comes first once in this many BRPOPs; the gate decides its share."""

OpenLanes = Callable[[Sequence[Lane]], Sequence[Lane]]


class LaneOrder:
    """The order of one channel. `open_lanes` filters full lanes."""

    def __init__(self) -> None:
        self._lanes: tuple[Lane, ...] = ()
        self._brpops = 0
        self.last_used = ""
        self.open_lanes: OpenLanes = lambda lanes: lanes

    def update(self, queues: Sequence[str]) -> None:
        """Set the consumed queues, in any order."""
        self._lanes = tuple(lane for lane in Lane if lane.queue in queues)

    def consume(self, _count: int) -> list[str]:
        """Return the queues of the next BRPOP; none while no lane has room."""
        self._brpops += 1
        return [lane.queue for lane in self.open_lanes(self._in_turn())]

    def rotate(self, last_used: str) -> str:
        """Remember the queue of the last message."""
        self.last_used = last_used
        return last_used

    def _in_turn(self) -> Sequence[Lane]:
        for lane in reversed(self._lanes):
            if lane in TURNS and self._brpops % TURNS[lane] == 0:
                return (lane, *(other for other in self._lanes if other is not lane))
        return self._lanes
