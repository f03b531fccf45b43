"""Lessons of several processes, against a real Postgres: each is added once, whoever writes last."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.estimates import Lesson, Sums, Topic
from schemas.job import Target
from storage.tenancy.token_estimates import EstimateTable


def topic(model: str) -> Topic:
    return Topic(target=Target(account="a", model=model), shape="plain", features="bytes/1")


def lesson(model: str, *values: float, calls: int = 1, fading: float = 1.0) -> Lesson:
    return Lesson(topic=topic(model), sums=Sums(calls=calls, values=values), fading=(fading,) * len(values))


async def test_lessons_add_up_and_fade_what_was_there(engine: AsyncEngine) -> None:
    table = EstimateTable(engine)
    await table.exchange([lesson("fades", 10.0, 20.0, calls=3)])

    known = await table.exchange([lesson("fades", 1.0, 2.0, calls=2, fading=0.5)])

    assert known[topic("fades")] == Sums(calls=5, values=(6.0, 12.0))


async def test_the_server_adds_as_a_process_does(engine: AsyncEngine) -> None:
    table, kept = EstimateTable(engine), (0.5, 0.25)
    first, second = Sums(calls=2, values=(8.0, 16.0)), Sums(calls=2, values=(1.0, 1.0))
    fading = tuple(rate**second.calls for rate in kept)
    await table.exchange([Lesson(topic=topic("same"), sums=first, fading=fading)])

    known = await table.exchange([Lesson(topic=topic("same"), sums=second, fading=fading)])

    assert known[topic("same")] == first.followed_by(second, kept)


async def test_lessons_told_at_once_are_all_kept(engine: AsyncEngine) -> None:
    table, models = EstimateTable(engine), ["x", "y", "z"]
    told = [[lesson(model, 1.0) for model in (models if number % 2 else models[::-1])] for number in range(20)]

    await asyncio.gather(*(table.exchange(lessons) for lessons in told))

    known = await table.exchange([])
    assert [known[topic(model)] for model in models] == [Sums(calls=20, values=(20.0,))] * 3


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0, 3.0)])
async def test_sums_of_another_kind_change_nothing(engine: AsyncEngine, values: tuple[float, ...]) -> None:
    table = EstimateTable(engine)
    await table.exchange([lesson(f"kind{len(values)}", 1.0, 1.0)])

    known = await table.exchange([lesson(f"kind{len(values)}", *values)])

    assert known[topic(f"kind{len(values)}")] == Sums(calls=1, values=(1.0, 1.0))
