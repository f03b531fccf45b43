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


async def test_concurrent_asks_never_exceed_a_limit_and_reserve_all_or_nothing(admission: Admission) -> None:
    asks = [an_ask(n, cost_nano_usd=NanoUsd(60 + n), counters=COUNTERS) for n in range(50)]

    answers = await asyncio.gather(*map(admission.gate.admit, asks))

    reserved = sum(answer.cost_nano_usd for answer in answers if isinstance(answer, Grant))
    assert 650 - 110 < reserved <= 650
    assert [await money(admission, counter) for counter in COUNTERS] == [(0, reserved)] * 3
    assert {answer.scope for answer in answers if isinstance(answer, Refusal)} == {"tenant:a"}


async def test_a_refusal_names_the_first_exhausted_scope_and_writes_nothing(admission: Admission) -> None:
    answer = refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(700), counters=COUNTERS)))

    assert (answer.reason, answer.scope) == (RefusalReason.BUDGET, "tenant:a")
    assert [await money(admission, counter) for counter in COUNTERS] == [(0, 0)] * 3


async def test_the_last_nano_dollar_may_be_spent_and_not_one_more(admission: Admission) -> None:
    await reserve(admission, 999, [GLOBAL])

    assert isinstance(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(2), counters=(GLOBAL,))), Refusal)
    await reserve(admission, 1, [GLOBAL])
    assert await money(admission, GLOBAL) == (0, 1_000)


async def test_two_budgets_of_one_scope_and_window_count_once_at_the_lower_limit(admission: Admission) -> None:
    stricter = a_counter(300)
    grant = await reserve(admission, 200, [GLOBAL, stricter])

    assert grant.counters == (stricter,)
    assert await money(admission, GLOBAL) == (0, 200)
    assert isinstance(
        await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(GLOBAL, stricter))), Refusal
    )


async def test_more_than_eight_budgets_are_refused(admission: Admission) -> None:
    many = tuple(a_counter(1_000, scope=f"user:{n}") for n in range(9))

    with pytest.raises(InvalidRequest, match="9"):
        await admission.gate.admit(an_ask(counters=many))


async def test_nine_quadrillion_dollars_are_counted_to_the_nano_dollar(admission: Admission) -> None:
    huge = a_counter(10**19)
    first = await reserve(admission, 2**53 + 1, [huge], name="a")
    second = await reserve(admission, 8_900_000_000_000_000_007, [huge], name="b")
    assert await money(admission, huge) == (0, 2**53 + 8_900_000_000_000_000_008)

    assert isinstance(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(10**17), counters=(huge,))), Refusal)
    await admission.gate.settle(release(second))
    await admission.gate.settle(post(first, 2**53 - 1))
    assert await money(admission, huge) == (2**53 - 1, 0)
    with pytest.raises(ValueError, match="budget limit"):
        await admission.ledger.pin_limits([a_counter(HIGHEST_LIMIT_NANO_USD + 1)])


async def test_a_pinned_limit_holds_whatever_asks_say(admission: Admission) -> None:
    await admission.ledger.pin_limits([a_counter(50)])

    assert isinstance(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(51), counters=(GLOBAL,))), Refusal)
    [balance] = await admission.ledger.balances([GLOBAL])
    assert balance.limit_nano_usd == 50


async def test_a_counter_is_kept_as_long_as_its_window_and_its_name_no_longer(
    admission: Admission, clock: Clock
) -> None:
    hour = a_counter(100, window="2026-11-24T05+0000@UTC")
    await reserve(admission, 1, [hour, MONTH])
    assert await admission.wire.command("TTL", admission.keys.counter(MONTH)) > 32 * 86_400
    assert await admission.wire.command("TTL", admission.keys.counter(hour)) > 86_400

    clock.pass_seconds(4 * 86_400)
    await reserve(admission, 1, [a_counter(100, scope="another")])

    names = await admission.wire.command("ZRANGE", admission.keys.counters, 0, -1)
    assert admission.keys.counter(MONTH).encode() in names
    assert admission.keys.counter(hour).encode() not in names


async def thresholds(admission: Admission) -> list[int]:
    return [event.percent for event in await admission.ledger.events()]


async def test_each_threshold_is_reported_once_with_settlements_sent_twice(admission: Admission) -> None:
    grants = [await reserve(admission, 100, [GLOBAL], name=f"n{n}") for n in range(10)]

    await asyncio.gather(*(admission.gate.settle(post(grant, 100)) for grant in grants for _ in range(3)))

    assert await thresholds(admission) == [50, 80, 100]
    events = await admission.ledger.events()
    assert {(event.scope, event.window, event.limit_nano_usd) for event in events} == {
        ("global", "2026-11-24@UTC", 1_000)
    }
    await admission.ledger.forget_events(events)
    await admission.ledger.forget_events(events)
    assert await thresholds(admission) == []


async def test_a_threshold_is_reported_at_its_exact_nano_dollar(admission: Admission) -> None:
    await admission.gate.settle(post(await reserve(admission, 499, [GLOBAL], name="a"), 499))
    assert await thresholds(admission) == []

    await admission.gate.settle(post(await reserve(admission, 1, [GLOBAL], name="b"), 1))
    assert await thresholds(admission) == [50]


async def test_a_raised_limit_is_reported_anew_and_what_lies_below_is_not(admission: Admission) -> None:
    await admission.gate.settle(post(await reserve(admission, 900, [GLOBAL]), 900))
    assert await thresholds(admission) == [50, 80]

    await admission.ledger.pin_limits([a_counter(1_500)])
    await admission.gate.settle(post(await reserve(admission, 400, [GLOBAL], name="more"), 400))

    assert await thresholds(admission) == [50, 80, 80]
