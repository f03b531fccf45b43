"""A group of duties that fails stops the process at once."""

import asyncio

import pytest

from workers.upkeep.process import until_one_fails


async def test_a_group_that_fails_stops_the_others() -> None:
    stopping = asyncio.Event()

    async def broken() -> None:
        raise KeyError

    other = asyncio.create_task(_ended_by(stopping))
    with pytest.raises(KeyError):
        await until_one_fails([broken(), other], stopping.set)

    await asyncio.wait_for(other, timeout=1)


async def _ended_by(stopping: asyncio.Event) -> None:
    await stopping.wait()
