"""Runs long work in slices, so that tenants take turns and the event loop stays free.

Work asks its `Slice` after each small step whether its turn is over. It must be safe to repeat after a restart.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from schemas.bounds import MAX_NODES
from schemas.ids import TenantId
from tasks.maintenance.items import Isolation

SLICE_SECONDS = 0.05
"""Longest turn, and longest that other requests wait for the loop."""

SLICE_BYTES = 4_000_000
"""Text of one turn. Its parsed form stays in memory until the turn ends."""

SLICE_NODES = 2 * MAX_NODES
"""JSON values of one turn, some 20 MB when parsed."""

Clock = Callable[[], float]


class Slice:
    """Counts what work has used of its turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._may_go_on, self._has_stopped = asyncio.Event(), asyncio.Event()
        self._bytes = self._nodes = 0
        self._until = 0.0

    def use(self, *, size_bytes: int = 0, nodes: int = 0) -> None:
        """Count bytes and JSON values."""
        self._bytes += size_bytes
        self._nodes += nodes

    @property
    def is_over(self) -> bool:
        """Tell whether the work must call `end` now."""
        return self._bytes >= SLICE_BYTES or self._nodes >= SLICE_NODES or self._clock() >= self._until

    async def end(self) -> None:
        """End the turn and wait for the next."""
        self._may_go_on.clear()
        self._has_stopped.set()
        await self._may_go_on.wait()

    async def give_way(self) -> None:
        """Yield to the loop when this turn is over, for work that takes no turns."""
        if self.is_over:
            await asyncio.sleep(0)
            self.begin()

    def begin(self) -> None:
        """Begin the next turn."""
        self._bytes = self._nodes = 0
        self._until = self._clock() + SLICE_SECONDS
        self._has_stopped.clear()
        self._may_go_on.set()

    def stop(self, _task: object = None) -> None:
        """Mark the work as ended."""
        self._has_stopped.set()

    async def stopped(self) -> None:
        """Wait until the turn or the work has ended."""
        await self._has_stopped.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Describes long work of a tenant. `name` is unique; `run` calls `end` when its slice is over."""

    tenant_id: TenantId
    name: str
    run: Callable[[Slice], Coroutine[None, None, None]]


class _Started:
    def __init__(self, work: Work, clock: Clock) -> None:
        self._slice = Slice(clock)
        self._task = asyncio.create_task(work.run(self._slice), name=work.name)
        self._task.add_done_callback(self._slice.stop)

    async def advance(self) -> bool:
        """Work for one turn; returns whether the work is done."""
        self._slice.begin()
        await self._slice.stopped()
        if not self._task.done():
            return False
        self._task.result()
        return True

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


class Rotation:
    """Chooses at most `most_of_tenant` items of every tenant, the longest-waiting first."""

    def __init__(self, most_of_tenant: int = 1) -> None:
        self._most_of_tenant = most_of_tenant
        self._last_turn: dict[str, int] = {}
        self._round = 0

    def chosen(self, tenant_by_name: Mapping[str, str]) -> list[str]:
        """Choose the names of this round. Missing items are forgotten."""
        self._round += 1
        self._last_turn = {name: self._last_turn.get(name, self._round) for name in tenant_by_name}
        names, taken = list[str](), Counter[str]()
        for name in sorted(tenant_by_name, key=self._last_turn.__getitem__):
            tenant = tenant_by_name[name]
            if taken[tenant] < self._most_of_tenant:
                taken[tenant] += 1
                names.append(name)
                self._last_turn[name] = self._round + 1
        return names


class Turns:
    """Gives every tenant one turn per round, for its longest-waiting work."""

    def __init__(self, isolation: Isolation, clock: Clock = time.monotonic) -> None:
        self._isolation, self._clock = isolation, clock
        self._started: dict[str, _Started] = {}
        self._rotation = Rotation()

    async def round(self, works: Sequence[Work]) -> int:
        """Give each tenant one turn; returns the number of turns. Missing work is dropped."""
        by_name = {work.name: work for work in works}
        await self._drop_others(by_name.keys())
        ready = {name: str(work.tenant_id) for name, work in by_name.items() if not self._isolation.is_waiting(name)}
        return sum([await self._turn(by_name[name]) for name in self._rotation.chosen(ready)])

    async def aclose(self) -> None:
        """Drop all work."""
        await self._drop_others(())

    async def _turn(self, work: Work) -> int:
        await self._isolation.run(work.name, lambda: self._advance(work))
        await asyncio.sleep(0)
        return 1

    async def _advance(self, work: Work) -> int:
        started = self._started.pop(work.name, None) or _Started(work, self._clock)
        try:
            is_done = await started.advance()
        except asyncio.CancelledError:
            await started.cancel()
            raise
        if not is_done:
            self._started[work.name] = started
        return 1

    async def _drop_others(self, names: Collection[str]) -> None:
        for name in self._started.keys() - set(names):
            await self._started.pop(name).cancel()
