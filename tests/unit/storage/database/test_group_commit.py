"""Many callers, one transaction: and what becomes of the others when one of them brings what cannot be written."""

import asyncio
from collections.abc import Sequence
from math import log2

import pytest

from schemas.errors import PostgresUnavailable
from storage.database.group_commit import MAX_GROUP, GroupCommitter


class Store:
    """Writes numbers; a group with a poison one fails as a whole."""

    def __init__(self, *poison: int, error: Exception | None = None) -> None:
        self.poison = frozenset(poison)
        self.error = error or ValueError("a value that cannot be stored")
        self.written: list[int] = []
        self.transactions = 0

    async def write(self, items: Sequence[int]) -> Sequence[int]:
        self.transactions += 1
        await asyncio.sleep(0)
        if self.poison.intersection(items):
            raise self.error
        self.written += items
        return [item * 10 for item in items]


async def submitted(store: Store, count: int) -> list[int | BaseException]:
    committer = GroupCommitter(store.write)
    return await asyncio.gather(*(committer.submit(item) for item in range(count)), return_exceptions=True)


@pytest.mark.parametrize("poison", [(0,), (199,), (57,), (1, 2, 3), (0, 100, 199)])
async def test_only_the_culprit_learns_of_its_error(poison: tuple[int, ...]) -> None:
    store = Store(*poison)

    ends = await submitted(store, MAX_GROUP)

    assert {item for item, end in enumerate(ends) if isinstance(end, ValueError)} == set(poison)
    assert [end for end in ends if not isinstance(end, Exception)] == [
        item * 10 for item in range(MAX_GROUP) if item not in poison
    ]


async def test_every_neighbour_is_written_once() -> None:
    store = Store(57)

    await submitted(store, MAX_GROUP)

    assert sorted(store.written) == [item for item in range(MAX_GROUP) if item != 57]


async def test_one_culprit_costs_few_transactions() -> None:
    store = Store(57)

    await submitted(store, MAX_GROUP)

    assert store.transactions <= 1 + 2 * (int(log2(MAX_GROUP)) + 1)


async def test_a_group_without_a_culprit_is_one_transaction() -> None:
    store = Store()

    await submitted(store, MAX_GROUP)

    assert store.transactions == 1


async def test_a_store_that_is_away_is_asked_once_and_everybody_learns_of_it() -> None:
    store = Store(3, error=PostgresUnavailable())

    ends = await submitted(store, 10)

    assert store.transactions == 1
    assert all(isinstance(end, PostgresUnavailable) for end in ends)
