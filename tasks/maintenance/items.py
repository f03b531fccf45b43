"""Runs one step for each item of a duty, so that an exception of one item ends that item and no other.

An exception is logged once for its item. The item is tried again after growing pauses, and ended with a reason after
`MOST_FAILURES`. A store that is away is no item's fault: `Unavailable` goes on to the caller and ends the round.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from schemas.errors import PenstockError, PostgresBusy, Unavailable

log = structlog.get_logger()

Item = TypeVar("Item")

MOST_FAILURES = 3
"""Failures after which an item is ended. Three in a row, with pauses between them, are caused by the item itself."""

MOST_BUSY = 8
"""The same for a statement that Postgres aborted (time-out, deadlock). Load may cause that, and may end within the two
minutes of pauses."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""Pauses between two tries of an item, doubling: an item that cannot be ended costs its duty next to nothing."""

MOST_REMEMBERED = 10_000
"""Failing items that a duty remembers, so that their memory is bounded; the oldest are forgotten and logged again."""


@dataclass(kw_only=True, slots=True)
class _Failures:
    number: int = 0
    retry_at: float = 0.0


End = Callable[[str, Exception], Awaitable[object]]


class Isolation:
    """The failing items of one duty. `end` ends an item with a reason for its owner; without it, items only wait."""

    def __init__(self, duty: str, *, end: End | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._duty, self._end, self._clock = duty, end, clock
        self._failing: OrderedDict[str, _Failures] = OrderedDict()

    async def each(
        self, items: Iterable[Item], name_of: Callable[[Item], str], step: Callable[[Item], Awaitable[int]]
    ) -> int:
        """Run the step for each item in order; returns the sum of the results. Raises Unavailable."""
        moved = 0
        for item in items:
            moved += await self.run(name_of(item), partial(step, item))
        return moved

    async def run(self, name: str, step: Callable[[], Awaitable[int]]) -> int:
        """Run one item's step; 0 where it failed or waits after a failure. Raises Unavailable."""
        if self.is_waiting(name):
            return 0
        try:
            moved = await step()
        except PostgresBusy as error:
            await self._failed(name, error, most=MOST_BUSY)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a process loop: the bug or value of one item must not stop the others
            await self._failed(name, error, most=MOST_FAILURES)
        else:
            self._failing.pop(name, None)
            return moved
        return 0

    def is_waiting(self, name: str) -> bool:
        """Whether the item failed lately, and has not been tried again."""
        failures = self._failing.get(name)
        return failures is not None and self._clock() < failures.retry_at

    async def _failed(self, name: str, error: Exception, *, most: int) -> None:
        failures = self._failing.setdefault(name, _Failures())
        failures.number += 1
        pause_seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** (failures.number - 1), LONGEST_PAUSE_SECONDS)
        failures.retry_at = self._clock() + pause_seconds
        if failures.number == 1:
            log.error("item_failed", duty=self._duty, item=name, exc_info=error)
        if len(self._failing) > MOST_REMEMBERED:
            self._failing.popitem(last=False)
        if self._end is not None and failures.number >= most:
            await self._end_item(name, error, self._end)

    async def _end_item(self, name: str, error: Exception, end: End) -> None:
        try:
            await end(name, error)
        except PostgresBusy:
            return  # it is ended after the next pause
        except Unavailable:
            raise
        except Exception:  # the same loop; the item stays and waits ever longer
            log.exception("item_cannot_be_ended", duty=self._duty, item=name)
            return
        self._failing.pop(name, None)
        log.warning("item_ended", duty=self._duty, item=name, error=type(error).__name__)


def reason_of(error: Exception) -> str:
    """Say why an item ended, for its owner. Foreign errors are named by class, as their messages may quote content."""
    if isinstance(error, PenstockError):
        return error.message
    return f"It met an error of this service ({type(error).__name__}), which its log describes under this id."
