"""Settlements: each reservation is settled once, in its own windows, or waits in suspense."""

import asyncio

from admission.connect import Admission
from admission.stamps import read_stamp
from schemas.admission import SettleKind, Settlement
from tests.support.admission_fixture import Clock, a_counter
from tests.support.admission_money import COUNTERS, GLOBAL, TENANT, money, post, release, reserve


async def test_a_settlement_counts_once_whatever_comes_after_it(admission: Admission) -> None:
    grant = await reserve(admission, 100)

    assert await admission.gate.settle(post(grant, 40))
    assert not any([await admission.gate.settle(again) for again in (post(grant, 40), release(grant), post(grant, 90))])

    assert [await money(admission, counter) for counter in COUNTERS] == [(40, 0)] * 3


async def test_settlements_that_race_count_once(admission: Admission) -> None:
    grant = await reserve(admission, 100)

    done = await asyncio.gather(*(admission.gate.settle(post(grant, 40)) for _ in range(30)))

    assert sum(done) == 1
    assert await money(admission, GLOBAL) == (40, 0)


async def test_settling_out_of_order_leaves_the_same_balance(admission: Admission) -> None:
    grants = [await reserve(admission, 50, name=f"n{n}") for n in range(6)]

    for number in (5, 0, 3, 1, 4, 2):
        await admission.gate.settle(post(grants[number], number))

    assert await money(admission, TENANT) == (15, 0)


async def test_windows_count_apart_and_a_reservation_settles_in_its_own_window(admission: Admission) -> None:
    yesterday, today = a_counter(100, window="2026-11-23@UTC"), a_counter(100, window="2026-11-24@UTC")
    late = await reserve(admission, 100, [yesterday])
    await reserve(admission, 100, [today])

    await admission.gate.settle(post(late, 60))

    assert await money(admission, yesterday) == (60, 0)
    assert await money(admission, today) == (0, 100)


async def test_a_settlement_does_not_revive_a_counter_that_was_forgotten(admission: Admission) -> None:
    grant = await reserve(admission, 10, [GLOBAL])
    await admission.wire.command("DEL", admission.keys.counter(GLOBAL))

    assert await admission.gate.settle(post(grant, 10))

    assert await admission.wire.command("EXISTS", admission.keys.counter(GLOBAL)) == 0


async def test_what_expires_moves_its_money_to_suspense_and_is_settled_late_once(
    admission: Admission, clock: Clock
) -> None:
    grant = await reserve(admission, 100)
    clock.pass_seconds(659)
    assert await admission.gate.expire() == []
    clock.pass_seconds(1)

    assert await admission.gate.expire() == [grant.stamp]
    assert await admission.gate.expire() == []
    assert await money(admission, GLOBAL) == (0, 100)
    assert await admission.ledger.suspended() == ([grant.stamp], 0)
    assert read_stamp(grant.stamp).attempt_id == "att_x"

    assert await admission.gate.settle(post(grant, 70))
    assert not await admission.ledger.resolve(post(grant, 70))
    assert await money(admission, GLOBAL) == (70, 0)
    assert await admission.ledger.suspended() == ([], 0)


async def test_an_unknown_outcome_keeps_its_money_reserved_until_somebody_knows(admission: Admission) -> None:
    grant = await reserve(admission, 100)

    assert await admission.gate.settle(Settlement(grant=grant, kind=SettleKind.SUSPEND))
    assert not await admission.gate.settle(Settlement(grant=grant, kind=SettleKind.SUSPEND))
    assert await money(admission, GLOBAL) == (0, 100)

    assert await admission.ledger.resolve(release(grant))
    assert await money(admission, GLOBAL) == (0, 0)


async def test_paging_through_suspense_sees_all_that_stays_while_others_change(
    admission: Admission, clock: Clock
) -> None:
    lost = [(await reserve(admission, 0, [GLOBAL], name=f"n{n}")) for n in range(300)]
    clock.pass_seconds(660)
    await admission.gate.expire(limit=300)
    leaving, staying = lost[:150], {grant.stamp for grant in lost[150:]}

    seen, cursor = await admission.ledger.suspended(about=20)
    pages = [len(seen)]
    while cursor:
        assert await admission.gate.settle(release(leaving.pop()))
        await admission.gate.settle(Settlement(grant=await reserve(admission, 0, [GLOBAL]), kind=SettleKind.SUSPEND))
        stamps, cursor = await admission.ledger.suspended(cursor, about=20)
        seen += stamps
        pages.append(len(stamps))

    assert staying <= set(seen)
    assert max(pages) < 40
