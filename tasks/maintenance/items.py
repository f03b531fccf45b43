"""Runs one step for each item of a duty, so that an exception ends only its own item.

The item is tried again after growing pauses, and ended after `MOST_FAILURES`. `Unavailable` ends the round.
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
"""Three failures in a row, with pauses, are caused by the item itself."""

MOST_BUSY = 8
"""The same for statements that Postgres aborted: load may cause that, and end within the two minutes of pauses."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""Pauses double, so an item that cannot be ended costs next to nothing."""

MOST_REMEMBERED = 10_000
"""Failing items that a duty remembers; older ones are logged again."""


@dataclass(kw_only=True, slots=True)
class _Failures:
    number: int = 0
    retry_at: float = 0.0


End = Callable[[str, Exception], Awaitable[object]]


class Isolation:
    """Isolates failing items of one duty. `end` ends an item; without it, items only wait."""

    def __init__(self, duty: str, *, end: End | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._duty, self._end, self._clock = duty, end, clock
        self._failing: OrderedDict[str, _Failures] = OrderedDict()

    async def each(
        self, items: Iterable[Item], name_of: Callable[[Item], str], step: Callable[[Item], Awaitable[int]]
    ) -> int:
        """Run the step for each item in order; returns the sum. Raises Unavailable."""
        moved = 0
        for item in items:
            moved += await self.run(name_of(item), partial(step, item))
        return moved

    async def run(self, name: str, step: Callable[[], Awaitable[int]]) -> int:
        """Run one step; 0 where it failed or waits. Raises Unavailable."""
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
        """Tell whether the item failed and will be tried again."""
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
        except Exception:  # the item stays and waits longer
            log.exception("item_cannot_be_ended", duty=self._duty, item=name)
            return
        self._failing.pop(name, None)
        log.warning("item_ended", duty=self._duty, item=name, error=type(error).__name__)


def reason_of(error: Exception) -> str:
    """Describe an error to its owner. Foreign messages may quote content, so only their class is named."""
    if isinstance(error, PenstockError):
        return error.message
    return f"It met an error of this service ({type(error).__name__}), which its log describes under this id."
