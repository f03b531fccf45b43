"""Commits the rows of many callers in one transaction.

The next group gathers during a flush, so an idle system adds no wait. A failed group is halved until bad items fail
alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from schemas.errors import Unavailable

log = structlog.get_logger()

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_GROUP = 200
"""Beyond this the gain is within noise, and one slow row delays more callers."""

MAX_FLUSHES = 2
"""Two keep the disk busy; more only split the groups."""


class GroupCommitter(Generic[Item, Result]):
    """Gathers items for `write`, which returns one result per item in order.

    `write` is one transaction: when it raises, it wrote nothing.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._flushes: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """Write the item in a group, and return after its commit.

        Unavailable fails the whole group; any other error only its item.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._flushes) < MAX_FLUSHES:
            self._start()
        return await future

    def _start(self) -> None:
        task = asyncio.create_task(self._flush())
        self._flushes.add(task)
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        if self._waiting and len(self._flushes) < MAX_FLUSHES:
            self._start()

    async def _flush(self) -> None:
        await asyncio.sleep(0)
        group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
        if not group:
            return
        try:
            failed = await self._write_apart(group)
        except BaseException as error:  # every caller must get it, cancellation included
            _fail(group, error)
            if not isinstance(error, Exception):
                raise
            return
        if failed and len(group) > 1:
            log.error("group_write_failed", items=len(group), failed=len(failed), error=type(failed[0]).__name__)

    async def _write_apart(self, group: "Sequence[tuple[Item, asyncio.Future[Result]]]") -> list[Exception]:
        """Halves a failed group; returns the errors of single items."""
        try:
            results = await self._write([item for item, _ in group])
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - an item's fault; its caller gets it
            if len(group) == 1:
                _fail(group, error)
                return [error]
            middle = len(group) // 2
            return await self._write_apart(group[:middle]) + await self._write_apart(group[middle:])
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
        return []


def _fail(group: Sequence[tuple[object, asyncio.Future[Result]]], error: BaseException) -> None:
    for _, future in group:
        if not future.done():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
