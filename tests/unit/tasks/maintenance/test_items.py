"""An item that fails is logged once, ended with a reason, and keeps nobody waiting."""

from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from schemas.errors import PostgresBusy, PostgresUnavailable
from tasks.maintenance.items import MOST_BUSY, MOST_FAILURES, Isolation, reason_of

Step = Callable[[str], Awaitable[int]]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Ended:
    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []

    async def __call__(self, name: str, error: Exception) -> None:
        self.items.append((name, reason_of(error)))


def failing(of: str, error: Exception) -> Step:
    async def step(item: str) -> int:
        if item == of:
            raise error
        return 1

    return step


async def rounds(isolation: Isolation, clock: Clock, step: Step, number: int) -> list[int]:
    moved = []
    for _ in range(number):
        moved.append(await isolation.each(["a", "odd", "b"], str, step))
        clock.seconds += 1_000
    return moved


async def test_an_item_that_fails_is_ended_and_its_neighbours_go_on() -> None:
    clock, ended = Clock(), Ended()
    isolation = Isolation("duty", end=ended, clock=clock)

    with capture_logs() as logs:
        moved = await rounds(isolation, clock, failing("odd", OverflowError("secret words")), MOST_FAILURES)

    assert moved == [2] * MOST_FAILURES
    [(name, reason)] = ended.items
    assert name == "odd"
    assert "OverflowError" in reason
    assert "secret words" not in reason
    assert [log["event"] for log in logs] == ["item_failed", "item_ended"]


async def test_an_item_that_nothing_can_end_waits_ever_longer_and_is_logged_once() -> None:
    clock, tries = Clock(), list[float]()

    async def step(item: str) -> int:
        if item == "odd":
            tries.append(clock.seconds)
            raise ValueError
        return 1

    isolation = Isolation("duty", clock=clock)
    with capture_logs() as logs:
        for _ in range(2_000):
            assert await isolation.each(["odd", "b"], str, step) == 1
            clock.seconds += 1

    assert len(tries) < 20
    assert len(logs) == 1


async def test_a_statement_that_took_too_long_is_tried_longer_than_a_bug() -> None:
    clock, ended = Clock(), Ended()
    isolation = Isolation("duty", end=ended, clock=clock)

    await rounds(isolation, clock, failing("odd", PostgresBusy()), MOST_BUSY - 1)
    assert ended.items == []
    await rounds(isolation, clock, failing("odd", PostgresBusy()), 1)

    assert ended.items == [("odd", PostgresBusy().message)]


async def test_a_store_that_is_away_is_nobodys_fault() -> None:
    clock, ended = Clock(), Ended()
    isolation = Isolation("duty", end=ended, clock=clock)

    for _ in range(MOST_FAILURES + 1):
        with pytest.raises(PostgresUnavailable):
            await isolation.each(["odd"], str, failing("odd", PostgresUnavailable()))

    assert ended.items == []


async def test_an_item_that_works_again_begins_anew() -> None:
    clock, ended = Clock(), Ended()
    isolation = Isolation("duty", end=ended, clock=clock)

    for _ in range(MOST_FAILURES):
        await rounds(isolation, clock, failing("odd", ValueError()), MOST_FAILURES - 1)
        await rounds(isolation, clock, failing("none", ValueError()), 1)

    assert ended.items == []


async def test_an_item_whose_end_fails_too_stays_alone_with_it() -> None:
    clock = Clock()

    async def end(_name: str, _error: Exception) -> None:
        raise KeyError

    isolation = Isolation("duty", end=end, clock=clock)

    assert await rounds(isolation, clock, failing("odd", ValueError()), 5) == [2] * 5
