"""Group commit: many callers, one transaction. Each caller's await ends after the commit that holds its row.

While one flush is under way the next group gathers, so the size of a group follows the load and an idle system adds
no wait at all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_GROUP = 200
"""Rows per transaction: beyond this the gain is within noise and one slow row delays more callers."""

MAX_FLUSHES = 2
"""Transactions under way at once: two keep the disk busy, more only split the groups."""


class GroupCommitter(Generic[Item, Result]):
    """Gathers items and writes them together by `write`, which returns one result per item in order."""

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._flushes: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """Write the item with its neighbours. An error of the transaction is raised to each of them."""
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
            results = await self._write([item for item, _ in group])
        except BaseException as error:  # every caller must learn of it; cancellation too
            _fail(group, error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)


def _fail(group: Sequence[tuple[object, asyncio.Future[Result]]], error: BaseException) -> None:
    for _, future in group:
        if not future.done():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
