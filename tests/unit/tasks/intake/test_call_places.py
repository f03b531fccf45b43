"""Places for synchronous calls: one tenant may have nearly all, and never all that another needs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from schemas.errors import ShareUsedUp
from schemas.ids import TenantId
from tasks.intake.call_places import FEW_CALLS, CallPlaces
from tests.support.virtual_time import in_virtual_time

GREEDY, MODEST = TenantId("greedy"), TenantId("modest")
PATIENCE_SECONDS = 30.0
PLACES = 625


def now() -> float:
    return asyncio.get_running_loop().time()


async def a_call(places: CallPlaces, tenant_id: TenantId, seconds: float) -> float:
    """Make one call; returns how long it took with its wait."""
    began = now()
    async with places.held(tenant_id, PATIENCE_SECONDS):
        await asyncio.sleep(seconds)
    return now() - began


def beside(slow: int, work: Callable[[CallPlaces], Awaitable[float]], *, total: int = PLACES) -> float:
    """What the work comes to beside so many callers of the greedy tenant, who each call for ten seconds for ever."""

    async def scene() -> float:
        places = CallPlaces(total)

        async def caller() -> None:
            while True:
                with suppress(ShareUsedUp):
                    await a_call(places, GREEDY, 10.0)

        async with asyncio.TaskGroup() as callers:
            tasks = [callers.create_task(caller()) for _ in range(slow)]
            await asyncio.sleep(1.0)
            result = await work(places)
            for task in tasks:
                task.cancel()
        return result

    return in_virtual_time(scene())


async def p99_of_single_calls(places: CallPlaces) -> float:
    spent = sorted([await a_call(places, MODEST, 1.0) for _ in range(100)])
    return spent[98]


@pytest.mark.parametrize("slow", [600, 700, 2_000])
def test_single_calls_beside_600_slow_ones_take_as_long_as_alone(slow: int) -> None:
    alone, crowded = beside(0, p99_of_single_calls), beside(slow, p99_of_single_calls)

    assert crowded <= 1.2 * alone


def test_one_tenant_alone_has_more_places_than_there_are_slots() -> None:
    async def in_use(places: CallPlaces) -> float:
        return places.in_use

    assert beside(600, in_use) >= 500


def test_many_calls_of_a_second_tenant_come_to_half_of_the_places() -> None:
    async def second_tenant(places: CallPlaces) -> float:
        spent = await asyncio.gather(*(a_call(places, MODEST, 1.0) for _ in range(20)))
        return max(spent)

    assert beside(200, second_tenant, total=20) <= 12.0


def test_a_place_that_becomes_free_goes_to_the_tenant_with_the_fewest() -> None:
    async def scene() -> list[str]:
        places, served = CallPlaces(FEW_CALLS), list[str]()

        async def waiting(tenant: str) -> None:
            async with places.held(TenantId(tenant), PATIENCE_SECONDS):
                served.append(tenant)
                await asyncio.sleep(1)

        first = [asyncio.create_task(a_call(places, GREEDY, n + 1.0)) for n in range(FEW_CALLS)]
        await asyncio.sleep(0)
        later = [asyncio.create_task(waiting(tenant)) for tenant in ("greedy", "greedy", "b", "b", "c")]
        await asyncio.gather(*first, *later)
        return served

    assert in_virtual_time(scene()) == ["b", "c", "b", "greedy", "greedy"]


def test_a_call_unserved_within_its_patience_fails_and_leaves_nothing() -> None:
    async def scene() -> tuple[float, int]:
        places = CallPlaces(1)
        async with places.held(GREEDY, 0):
            began = now()
            with pytest.raises(ShareUsedUp, match="1 synchronous calls of this tenant"):
                await a_call(places, GREEDY, 1)
            waited = now() - began
        await a_call(places, GREEDY, 1)
        return waited, places.in_use

    assert in_virtual_time(scene()) == (PATIENCE_SECONDS, 0)


def test_a_caller_who_leaves_while_waiting_frees_its_place_for_the_next() -> None:
    async def scene() -> int:
        places = CallPlaces(1)
        async with places.held(GREEDY, 0):
            left = [asyncio.create_task(a_call(places, GREEDY, 1)) for _ in range(3)]
            await asyncio.sleep(0)
            left[0].cancel()
            await asyncio.sleep(0)
        left[1].cancel()  # it has just been given the place
        await asyncio.gather(*left, return_exceptions=True)
        return places.in_use

    assert in_virtual_time(scene()) == 0
