"""One wire on a real server: nobody is forgotten, nothing is sent twice, and errors become ours."""

import asyncio

import pytest

from admission.connect import Admission
from admission.scripts import EXPIRE, Script
from admission.wire import MOST_PER_PIPELINE, ScriptFailed, Wire
from schemas.errors import RedisUnavailable

DEADLINE_SECONDS = 10.0


@pytest.mark.parametrize("connections", [1, 2])
async def test_callers_who_ask_again_at_once_are_never_forgotten(redis_url: str, connections: int) -> None:
    async def one_after_the_other(wire: Wire) -> int:
        return len([await wire.command("PING") for _ in range(50)])

    async with Wire(redis_url, connections=connections) as wire, asyncio.timeout(DEADLINE_SECONDS):
        done = await asyncio.gather(*(one_after_the_other(wire) for _ in range(connections)))

    assert done == [50] * connections


async def test_more_asks_than_fit_one_pipeline_each_get_their_own_answer(redis_url: str) -> None:
    async with Wire(redis_url) as wire, asyncio.timeout(DEADLINE_SECONDS):
        answers = await asyncio.gather(*(wire.command("ECHO", number) for number in range(3 * MOST_PER_PIPELINE)))

    assert answers == [str(number).encode() for number in range(3 * MOST_PER_PIPELINE)]


async def test_a_script_that_the_server_forgot_is_loaded_and_runs_once(admission: Admission) -> None:
    counting = Script("counting", "return redis.call('INCR', KEYS[1])")
    key = admission.keys.suspense + "-count"
    await admission.wire.run(counting, [key], [])
    await admission.wire.command("SCRIPT FLUSH")

    async with asyncio.timeout(DEADLINE_SECONDS):
        answers = await asyncio.gather(*(admission.wire.run(counting, [key], []) for _ in range(20)))

    assert sorted(answers) == list(range(2, 22))


async def test_a_wrong_command_is_a_bug_and_not_an_outage(admission: Admission) -> None:
    with pytest.raises(ScriptFailed):
        await admission.wire.run(EXPIRE, [admission.keys.epoch, admission.keys.suspense], [1, ""])


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with Wire("redis://127.0.0.1:1/0", connect_timeout_seconds=0.5) as wire:
        with pytest.raises(RedisUnavailable):
            await wire.command("PING")


async def test_a_caller_who_gave_up_does_not_disturb_his_neighbours(redis_url: str) -> None:
    async with Wire(redis_url) as wire, asyncio.timeout(DEADLINE_SECONDS):
        impatient = asyncio.create_task(wire.command("PING"))
        neighbour = asyncio.create_task(wire.command("ECHO", "here"))
        await asyncio.sleep(0)
        impatient.cancel()

        assert await neighbour == b"here"
        assert await wire.command("ECHO", "still") == b"still"
