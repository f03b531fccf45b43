"""Budgets: no limit is ever passed, and each threshold is reported once."""

import asyncio

import pytest

from admission.balances import HIGHEST_LIMIT_NANO_USD
from admission.connect import Admission
from schemas.admission import Grant, Refusal, RefusalReason
from schemas.errors import InvalidRequest
from schemas.money import NanoUsd
from tests.support.admission_fixture import Clock, a_counter, an_ask, refused
from tests.support.admission_money import COUNTERS, GLOBAL, MONTH, money, post, release, reserve


async def test_concurrent_asks_never_exceed_a_limit_and_reserve_all_or_nothing(room: Admission) -> None:
    asks = [an_ask(n, cost_nano_usd=NanoUsd(60 + n), counters=COUNTERS) for n in range(50)]

    answers = await asyncio.gather(*map(room.gate.admit, asks))

    reserved = sum(answer.cost_nano_usd for answer in answers if isinstance(answer, Grant))
    assert 650 - 110 < reserved <= 650
    assert [await money(room, counter) for counter in COUNTERS] == [(0, reserved)] * 3
    assert {answer.scope for answer in answers if isinstance(answer, Refusal)} == {"tenant:a"}


async def test_a_refusal_names_the_first_scope_without_room_and_writes_nothing(room: Admission) -> None:
    answer = refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(700), counters=COUNTERS)))

    assert (answer.reason, answer.scope) == (RefusalReason.BUDGET, "tenant:a")
    assert [await money(room, counter) for counter in COUNTERS] == [(0, 0)] * 3


async def test_the_last_nano_dollar_may_be_spent_and_not_one_more(room: Admission) -> None:
    await reserve(room, 999, [GLOBAL])

    assert isinstance(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(2), counters=(GLOBAL,))), Refusal)
    await reserve(room, 1, [GLOBAL])
    assert await money(room, GLOBAL) == (0, 1_000)


async def test_two_budgets_of_one_scope_and_window_count_once_at_the_lower_limit(room: Admission) -> None:
    stricter = a_counter(300)
    grant = await reserve(room, 200, [GLOBAL, stricter])

    assert grant.counters == (stricter,)
    assert await money(room, GLOBAL) == (0, 200)
    assert isinstance(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(GLOBAL, stricter))), Refusal)


async def test_more_than_eight_budgets_are_refused(room: Admission) -> None:
    many = tuple(a_counter(1_000, scope=f"user:{n}") for n in range(9))

    with pytest.raises(InvalidRequest, match="9"):
        await room.gate.admit(an_ask(counters=many))


async def test_nine_quadrillion_dollars_are_counted_to_the_nano_dollar(room: Admission) -> None:
    huge = a_counter(10**19)
    first = await reserve(room, 2**53 + 1, [huge], name="a")
    second = await reserve(room, 8_900_000_000_000_000_007, [huge], name="b")
    assert await money(room, huge) == (0, 2**53 + 8_900_000_000_000_000_008)

    assert isinstance(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(10**17), counters=(huge,))), Refusal)
    await room.gate.settle(release(second))
    await room.gate.settle(post(first, 2**53 - 1))
    assert await money(room, huge) == (2**53 - 1, 0)
    with pytest.raises(ValueError, match="budget limit"):
        await room.ledger.pin_limits([a_counter(HIGHEST_LIMIT_NANO_USD + 1)])


async def test_a_pinned_limit_holds_whatever_asks_say(room: Admission) -> None:
    await room.ledger.pin_limits([a_counter(50)])

    assert isinstance(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(51), counters=(GLOBAL,))), Refusal)
    [balance] = await room.ledger.balances([GLOBAL])
    assert balance.limit_nano_usd == 50


async def test_a_counter_is_kept_as_long_as_its_window_and_its_name_no_longer(room: Admission, clock: Clock) -> None:
    hour = a_counter(100, window="2026-11-24T05+0000@UTC")
    await reserve(room, 1, [hour, MONTH])
    assert await room.wire.command("TTL", room.keys.counter(MONTH)) > 32 * 86_400
    assert await room.wire.command("TTL", room.keys.counter(hour)) > 86_400

    clock.pass_seconds(4 * 86_400)
    await reserve(room, 1, [a_counter(100, scope="another")])

    names = await room.wire.command("ZRANGE", room.keys.counters, 0, -1)
    assert room.keys.counter(MONTH).encode() in names
    assert room.keys.counter(hour).encode() not in names


async def thresholds(room: Admission) -> list[int]:
    return [event.percent for event in await room.ledger.events()]


async def test_each_threshold_is_reported_once_with_settlements_sent_twice(room: Admission) -> None:
    grants = [await reserve(room, 100, [GLOBAL], name=f"n{n}") for n in range(10)]

    await asyncio.gather(*(room.gate.settle(post(grant, 100)) for grant in grants for _ in range(3)))

    assert await thresholds(room) == [50, 80, 100]
    events = await room.ledger.events()
    assert {(event.scope, event.window, event.limit_nano_usd) for event in events} == {
        ("global", "2026-11-24@UTC", 1_000)
    }
    await room.ledger.forget_events(events)
    await room.ledger.forget_events(events)
    assert await thresholds(room) == []


async def test_a_threshold_is_reported_at_its_exact_nano_dollar(room: Admission) -> None:
    await room.gate.settle(post(await reserve(room, 499, [GLOBAL], name="a"), 499))
    assert await thresholds(room) == []

    await room.gate.settle(post(await reserve(room, 1, [GLOBAL], name="b"), 1))
    assert await thresholds(room) == [50]


async def test_a_raised_limit_is_reported_anew_and_what_lies_below_is_not(room: Admission) -> None:
    await room.gate.settle(post(await reserve(room, 900, [GLOBAL]), 900))
    assert await thresholds(room) == [50, 80]

    await room.ledger.pin_limits([a_counter(1_500)])
    await room.gate.settle(post(await reserve(room, 400, [GLOBAL], name="more"), 400))

    assert await thresholds(room) == [50, 80, 80]
