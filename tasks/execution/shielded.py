"""Steps that are taken to their end once begun: writing down what was paid for, and giving back what is held."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def run_shielded(step: Awaitable[T]) -> T:
    """Await the step; cancellations that come meanwhile, however many, are raised as one when the step is over."""
    task, interruption = asyncio.ensure_future(step), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None and (task.cancelled() or task.exception() is None):
        raise interruption
    return task.result()
