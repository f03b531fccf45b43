"""What must be written is written, however often whoever waits for it is told to stop."""

import asyncio

import pytest

from tasks.execution.shielded import run_shielded


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_step_outlasts_every_cancellation_and_then_the_last_is_raised(times: int) -> None:
    may_end, ended = asyncio.Event(), []

    async def step() -> None:
        await may_end.wait()
        ended.append("written")

    waiting = asyncio.create_task(run_shielded(step()))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["written"]


async def test_what_goes_wrong_in_the_step_is_raised_before_a_cancellation() -> None:
    may_fail = asyncio.Event()

    async def step() -> None:
        await may_fail.wait()
        raise ValueError("no room")

    waiting = asyncio.create_task(run_shielded(step()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    may_fail.set()

    with pytest.raises(ValueError, match="no room"):
        await waiting


async def test_a_step_that_is_cancelled_itself_ends_as_cancelled() -> None:
    async def step() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_shielded(step())


async def test_an_undisturbed_step_returns_its_value() -> None:
    async def step() -> int:
        return 3

    assert await run_shielded(step()) == 3
