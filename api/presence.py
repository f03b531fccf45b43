"""Runs work while its client is connected."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

Answer = TypeVar("Answer")


class ClientGone(Exception):  # noqa: N818 - reads as what happened
    """The client disconnected before the response."""


async def while_present(receive: Receive, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the work's result. Raises ClientGone and cancels the work at a disconnect.

    The body must have been read, because other messages are discarded.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await cancel_all(working, leaving)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel_all(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel the tasks and wait for their ends, whatever those are."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
