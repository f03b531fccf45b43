"""Duties run when due, and one that fails does not stop the others."""

import asyncio

import pytest
from structlog.testing import capture_logs

from schemas.errors import PostgresUnavailable
from tasks.maintenance.schedule import Duty, Rounds, run_maintenance


def counted(name: str, every_seconds: float, calls: list[str]) -> Duty:
    async def run() -> int:
        calls.append(name)
        return 1

    return Duty(name=name, every_seconds=every_seconds, run=run)


async def test_a_duty_runs_at_once_and_then_at_its_pace() -> None:
    calls: list[str] = []
    rounds = Rounds(duties=[counted("often", 1, calls), counted("seldom", 10, calls)])

    for now in (100.0, 100.5, 101.0, 110.0):
        await rounds.run_due(now)

    assert calls == ["often", "seldom", "often", "often", "seldom"]


async def test_a_duty_that_goes_on_runs_again_at_once_while_it_moves_something() -> None:
    moves, ran_at = [5, 5, 0, 5], list[float]()

    async def run() -> int:
        ran_at.append(now)
        return moves.pop(0)

    rounds = Rounds(duties=[Duty(name="long", every_seconds=10, run=run, goes_on=True)])
    for now in (100.0, 100.1, 100.2, 100.3, 110.2):
        await rounds.run_due(now)

    assert ran_at == [100.0, 100.1, 100.2, 110.2]


@pytest.mark.parametrize("error", [PostgresUnavailable, KeyError])
async def test_a_duty_that_fails_does_not_stop_the_others(error: type[Exception]) -> None:
    calls: list[str] = []

    async def broken() -> int:
        raise error

    rounds = Rounds(duties=[Duty(name="broken", every_seconds=0, run=broken), counted("fine", 0, calls)])

    assert await rounds.run_due(1.0) == 1
    assert calls == ["fine"]


async def test_a_duty_that_goes_on_failing_is_logged_once_until_it_works() -> None:
    errors: list[Exception | None] = [KeyError(), KeyError(), PostgresUnavailable(), PostgresUnavailable(), None]

    async def broken() -> int:
        if error := errors.pop(0):
            raise error
        return 0

    rounds = Rounds(duties=[Duty(name="broken", every_seconds=0, run=broken)])
    with capture_logs() as logs:
        while errors:
            await rounds.run_due(1.0)

    assert [log["event"] for log in logs] == ["duty_failed", "duty_waits", "duty_resumed"]


async def test_only_the_leader_works_and_it_stops_when_told() -> None:
    calls: list[str] = []
    woken, stopping = asyncio.Event(), asyncio.Event()
    answers = [False, True]
    woken.set()

    async def leads() -> bool:
        leading = answers.pop(0)
        if leading:
            stopping.set()
            woken.set()
        return leading

    rounds = Rounds(duties=[counted("duty", 0, calls)])
    async with asyncio.timeout(5):
        await run_maintenance(rounds, leads=leads, woken=woken, stopping=stopping, clock=lambda: 1.0)

    assert calls == ["duty"]
