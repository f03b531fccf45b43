"""A group of duties that fails stops the process at once; an item that fails stops no duty."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from storage.database.statements import RunEach, in_order
from workers.upkeep.process import _control_duties, until_one_fails


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


async def one_fails(run_each: RunEach[str] = in_order) -> int:
    """A round over two items, of which the first cannot be moved."""

    async def move(item: str) -> int:
        if item == "odd":
            raise KeyError(item)
        return 1

    return await run_each(["odd", "b"], str, move)


@pytest.mark.parametrize("name", ["sweep", "wake_early"])
async def test_a_control_or_a_wake_that_fails_holds_up_no_other(name: str) -> None:
    storage: Any = SimpleNamespace(
        controls=SimpleNamespace(put_back=None, sweep=one_fails),
        parked=SimpleNamespace(wake_early=one_fails),
        backlog=SimpleNamespace(forget_times=None),
    )
    [duty] = [duty for duty in _control_duties(storage) if duty.name == name]

    assert await duty.run() == 1
