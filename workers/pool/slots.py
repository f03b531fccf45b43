"""Limits the concurrent jobs of one worker process.

    in use <= total        in use by other lanes <= total - reserved        waiting only while no slot is free for it

Each counter has one writing thread. A message between the threads counts as a full slice.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

from schemas.lanes import Lane

SLICED = frozenset({Lane.NORMAL, Lane.LOW})
"""Lanes whose messages carry a slice; the others carry one job."""


class Slots:
    """The slots. Calls `wake` from the loop thread when an omitted lane has room."""

    def __init__(self, total: int, reserved: int, slice_size: int) -> None:
        self._total, self._reserved, self._slice_size = total, reserved, slice_size
        self._critical = self._others = 0
        self._waiting: list[tuple[int, int, Lane, asyncio.Future[None]]] = []
        self._order = count()
        self._handed_over = self._begun = 0
        self._left_out: tuple[Lane, ...] = ()
        self.wake: Callable[[], object] = lambda: None

    @property
    def in_use(self) -> int:
        """Jobs that hold a slot."""
        return self._critical + self._others

    @property
    def others_in_use(self) -> int:
        """Jobs of other lanes than critical that hold a slot."""
        return self._others

    @property
    def arriving(self) -> int:
        """Messages between the consumer thread and the loop."""
        return self._handed_over - self._begun

    @property
    def waiting(self) -> int:
        """Jobs that wait for a slot."""
        return sum(not future.done() for _, _, _, future in self._waiting)

    @asynccontextmanager
    async def held(self, lane: Lane) -> AsyncIterator[None]:
        """Hold one slot; the most urgent lane goes first. Loop thread only."""
        await self._take(lane)
        try:
            yield
        finally:
            self._give_back(lane)

    def hand_over(self) -> None:
        """Count a message on its way to the loop."""
        self._handed_over += 1

    def begin(self) -> None:
        """Count a message whose jobs now hold or await slots. Loop thread only."""
        self._begun += 1
        self._wake_if_room()

    def open_lanes(self, lanes: Sequence[Lane]) -> list[Lane]:
        """Return the lanes with room, in the same order."""
        self._left_out = tuple(lane for lane in lanes if not self.has_room(lane))
        return [lane for lane in lanes if self.has_room(lane)]  # checked again: a slot freed meanwhile wakes no one

    def has_room(self, lane: Lane) -> bool:
        """Whether the slots for a message of this lane are free."""
        if lane is Lane.CRITICAL:
            return self._free(lane) > self.arriving
        slots = self._slice_size if lane in SLICED else 1
        return self._free(lane) - len(self._waiting) - self.arriving * self._slice_size >= slots

    def _free(self, lane: Lane) -> int:
        free = self._total - self._critical - self._others
        return free if lane is Lane.CRITICAL else min(free, self._total - self._reserved - self._others)

    async def _take(self, lane: Lane) -> None:
        if self._free(lane) > 0:
            self._count(lane, 1)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (lane.rank, next(self._order), lane, granted)
        heapq.heappush(self._waiting, entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._forget(entry)
            else:
                self._give_back(lane)
            raise

    def _give_back(self, lane: Lane) -> None:
        self._count(lane, -1)
        while self._waiting and self._free(self._waiting[0][2]) > 0:
            _, _, next_lane, granted = heapq.heappop(self._waiting)
            if not granted.done():
                self._count(next_lane, 1)
                granted.set_result(None)
        self._wake_if_room()

    def _forget(self, entry: tuple[int, int, Lane, asyncio.Future[None]]) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)
            heapq.heapify(self._waiting)
            self._wake_if_room()

    def _count(self, lane: Lane, change: int) -> None:
        if lane is Lane.CRITICAL:
            self._critical += change
        else:
            self._others += change

    def _wake_if_room(self) -> None:
        if any(self.has_room(lane) for lane in self._left_out):
            self._left_out = ()
            self.wake()
