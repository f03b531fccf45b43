"""Runs a step to its end despite cancellation."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def run_shielded(step: Awaitable[T]) -> T:
    """Await the step, then raise one cancellation for any number during it."""
    task, interruption = asyncio.ensure_future(step), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None and (task.cancelled() or task.exception() is None):
        raise interruption
    return task.result()
