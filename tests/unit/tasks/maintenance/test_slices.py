"""Long work of one tenant is a turn, and the next turn is somebody else's."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from schemas.errors import PostgresUnavailable
from schemas.ids import TenantId
from tasks.maintenance.items import Isolation
from tasks.maintenance.slices import SLICE_BYTES, SLICE_NODES, SLICE_SECONDS, Slice, Turns, Work


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def turns(clock: Clock) -> Turns:
    return Turns(Isolation("duty", clock=clock), clock)


def work(tenant: str, name: str, run: Callable[[Slice], Awaitable[None]]) -> Work:
    return Work(tenant_id=TenantId(tenant), name=name, run=run)


async def steps(number: int, done: list[str], name: str, turn: Slice) -> None:
    for _ in range(number):
        done.append(name)
        turn.use(size_bytes=SLICE_BYTES)
        if turn.is_over:
            await turn.end()


async def test_a_tenant_with_many_pieces_of_work_has_one_turn_a_round() -> None:
    clock, done = Clock(), list[str]()
    greedy = [work("a", f"a{n}", partial(steps, 5, done, f"a{n}")) for n in range(3)]
    meek = work("b", "b", partial(steps, 2, done, "b"))
    rounds = turns(clock)

    for _ in range(3):
        await rounds.round([*greedy, meek])

    assert done == ["a0", "b", "a1", "b", "a2"]
    await rounds.aclose()


@pytest.mark.parametrize(
    ("size_bytes", "nodes", "seconds"), [(SLICE_BYTES, 0, 0), (0, SLICE_NODES, 0), (0, 0, SLICE_SECONDS)]
)
async def test_a_turn_ends_by_bytes_by_values_and_by_time(size_bytes: int, nodes: int, seconds: float) -> None:
    clock = Clock()
    turn = Slice(clock)
    turn.begin()
    assert not turn.is_over

    turn.use(size_bytes=size_bytes, nodes=nodes)
    clock.seconds += seconds

    assert turn.is_over
    turn.begin()
    assert not turn.is_over


async def test_work_that_fails_begins_again_after_a_pause_and_others_go_on() -> None:
    clock, done = Clock(), list[str]()

    async def odd(_turn: Slice) -> None:
        done.append("odd")
        raise ValueError

    rounds, both = turns(clock), [work("a", "odd", odd), work("b", "b", partial(steps, 9, done, "b"))]
    for _ in range(3):
        await rounds.round(both)
    clock.seconds += 10
    await rounds.round(both)

    assert done == ["odd", "b", "b", "b", "odd", "b"]
    await rounds.aclose()


async def test_a_store_that_is_away_ends_the_round_and_the_work_goes_on_later() -> None:
    clock, answers = Clock(), [PostgresUnavailable(), None]

    async def away(_turn: Slice) -> None:
        if error := answers.pop(0):
            raise error

    rounds, works = turns(clock), [work("a", "a", away)]
    with pytest.raises(PostgresUnavailable):
        await rounds.round(works)
    await rounds.round(works)

    assert answers == []


async def test_work_that_is_not_named_any_more_is_dropped_where_it_stands() -> None:
    clock, done = Clock(), list[str]()
    rounds = turns(clock)
    await rounds.round([work("a", "a", partial(steps, 5, done, "a"))])

    await rounds.round([])

    assert done == ["a"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "a"]
