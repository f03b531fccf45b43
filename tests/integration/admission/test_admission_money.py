"""The ledger in Redis: no limit is ever passed, everything is settled once, epochs close and open it."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest
from redis.crc import key_slot

from admission.balances import HIGHEST_LIMIT_NANO_USD
from admission.connect import Admission
from admission.gate import Gate
from admission.keys import Keys
from admission.ledger import Ledger, OpenReservation
from admission.limits import Balance
from admission.local_gate import LocalGate
from admission.scripts import Script
from admission.stamps import read_stamp
from admission.wire import Wire, Word
from schemas.admission import BudgetCounter, Grant, Pace, Penalty, Refusal, RefusalReason, SettleKind, Settlement
from schemas.errors import InvalidRequest
from schemas.money import NanoUsd
from tests.support.admission_fixture import (
    START_US,
    TARGET,
    Clock,
    a_counter,
    an_ask,
    granted,
    limits,
    moment_of,
    refused,
)

GLOBAL, TENANT, MONTH = a_counter(1_000), a_counter(650, scope="tenant:a"), a_counter(10_000, window="2026-11@UTC")
ALL = (GLOBAL, TENANT, MONTH)


async def money(room: Admission, counter: BudgetCounter) -> tuple[int, int]:
    [balance] = await room.gate.budgets([counter])
    return balance.settled_nano_usd, balance.reserved_nano_usd


async def reserve(room: Admission, cost: int, counters: Sequence[BudgetCounter] = ALL, name: str = "x") -> Grant:
    ask = an_ask(name, cost_nano_usd=NanoUsd(cost), counters=tuple(counters))
    return granted(await room.gate.admit(ask))


def post(grant: Grant, cost: int) -> Settlement:
    return Settlement(grant=grant, kind=SettleKind.POST, actual_tokens=grant.tokens, actual_nano_usd=NanoUsd(cost))


def release(grant: Grant) -> Settlement:
    return Settlement(grant=grant, kind=SettleKind.RELEASE)


async def test_concurrent_asks_never_exceed_a_limit_and_reserve_all_or_nothing(room: Admission) -> None:
    asks = [an_ask(n, cost_nano_usd=NanoUsd(60 + n), counters=ALL) for n in range(50)]

    answers = await asyncio.gather(*map(room.gate.admit, asks))

    reserved = sum(answer.cost_nano_usd for answer in answers if isinstance(answer, Grant))
    assert 650 - 110 < reserved <= 650
    assert [await money(room, counter) for counter in ALL] == [(0, reserved)] * 3
    assert {answer.scope for answer in answers if isinstance(answer, Refusal)} == {"tenant:a"}


async def test_a_refusal_names_the_first_scope_without_room_and_writes_nothing(room: Admission) -> None:
    answer = refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(700), counters=ALL)))

    assert (answer.reason, answer.scope) == (RefusalReason.BUDGET, "tenant:a")
    assert [await money(room, counter) for counter in ALL] == [(0, 0)] * 3


async def test_the_last_nano_dollar_may_be_spent_and_not_one_more(room: Admission) -> None:
    await reserve(room, 999, [GLOBAL])

    assert isinstance(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(2), counters=(GLOBAL,))), Refusal)
    await reserve(room, 1, [GLOBAL])
    assert await money(room, GLOBAL) == (0, 1_000)


async def test_a_settlement_counts_once_whatever_comes_after_it(room: Admission) -> None:
    grant = await reserve(room, 100)

    assert await room.gate.settle(post(grant, 40))
    assert not any([await room.gate.settle(again) for again in (post(grant, 40), release(grant), post(grant, 90))])

    assert [await money(room, counter) for counter in ALL] == [(40, 0)] * 3


async def test_settlements_that_race_count_once(room: Admission) -> None:
    grant = await reserve(room, 100)

    done = await asyncio.gather(*(room.gate.settle(post(grant, 40)) for _ in range(30)))

    assert sum(done) == 1
    assert await money(room, GLOBAL) == (40, 0)


async def test_settling_out_of_order_leaves_the_same_balance(room: Admission) -> None:
    grants = [await reserve(room, 50, name=f"n{n}") for n in range(6)]

    for number in (5, 0, 3, 1, 4, 2):
        await room.gate.settle(post(grants[number], number))

    assert await money(room, TENANT) == (15, 0)


async def test_what_expires_moves_its_money_to_suspense_and_is_settled_late_once(room: Admission, clock: Clock) -> None:
    grant = await reserve(room, 100)
    clock.pass_seconds(659)
    assert await room.gate.expire() == []
    clock.pass_seconds(1)

    assert await room.gate.expire() == [grant.stamp]
    assert await room.gate.expire() == []
    assert await money(room, GLOBAL) == (0, 100)
    assert await room.ledger.suspended() == ([grant.stamp], 0)
    assert read_stamp(grant.stamp).attempt_id == "att_x"

    assert await room.gate.settle(post(grant, 70))
    assert not await room.ledger.resolve(post(grant, 70))
    assert await money(room, GLOBAL) == (70, 0)
    assert await room.ledger.suspended() == ([], 0)


async def test_an_unknown_outcome_keeps_its_money_reserved_until_somebody_knows(room: Admission) -> None:
    grant = await reserve(room, 100)

    assert await room.gate.settle(Settlement(grant=grant, kind=SettleKind.SUSPEND))
    assert not await room.gate.settle(Settlement(grant=grant, kind=SettleKind.SUSPEND))
    assert await money(room, GLOBAL) == (0, 100)

    assert await room.ledger.resolve(release(grant))
    assert await money(room, GLOBAL) == (0, 0)


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


async def test_windows_count_apart_and_a_reservation_settles_in_its_own_window(room: Admission) -> None:
    yesterday, today = a_counter(100, window="2026-11-23@UTC"), a_counter(100, window="2026-11-24@UTC")
    late = await reserve(room, 100, [yesterday])
    await reserve(room, 100, [today])

    await room.gate.settle(post(late, 60))

    assert await money(room, yesterday) == (60, 0)
    assert await money(room, today) == (0, 100)


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


async def test_a_settlement_does_not_revive_a_counter_that_was_forgotten(room: Admission) -> None:
    grant = await reserve(room, 10, [GLOBAL])
    await room.wire.command("DEL", room.keys.counter(GLOBAL))

    assert await room.gate.settle(post(grant, 10))

    assert await room.wire.command("EXISTS", room.keys.counter(GLOBAL)) == 0


# Epochs


def balance_of(counter: BudgetCounter, settled: int, reserved: int, limit: int | None = None) -> Balance:
    return Balance(
        scope=counter.scope,
        window=counter.window,
        limit_nano_usd=None if limit is None else NanoUsd(limit),
        settled_nano_usd=NanoUsd(settled),
        reserved_nano_usd=NanoUsd(reserved),
    )


async def test_without_an_epoch_nothing_is_granted(room: Admission) -> None:
    await room.wire.command("DEL", room.keys.epoch)

    assert refused(await room.gate.admit(an_ask())).reason is RefusalReason.NOT_READY


async def test_paging_through_suspense_sees_all_that_stays_while_others_change(room: Admission, clock: Clock) -> None:
    lost = [(await reserve(room, 0, [GLOBAL], name=f"n{n}")) for n in range(300)]
    clock.pass_seconds(660)
    await room.gate.expire(limit=300)
    leaving, staying = lost[:150], {grant.stamp for grant in lost[150:]}

    seen, cursor = await room.ledger.suspended(about=20)
    pages = [len(seen)]
    while cursor:
        assert await room.gate.settle(release(leaving.pop()))
        await room.gate.settle(Settlement(grant=await reserve(room, 0, [GLOBAL]), kind=SettleKind.SUSPEND))
        stamps, cursor = await room.ledger.suspended(cursor, about=20)
        seen += stamps
        pages.append(len(stamps))

    assert staying <= set(seen)
    assert max(pages) < 40


@pytest.mark.parametrize("epoch", [0, 2])
async def test_an_ask_of_another_epoch_is_told_the_one_in_force(room: Admission, epoch: int) -> None:
    answer = refused(await room.gate.admit(an_ask(epoch=epoch)))

    assert (answer.reason, answer.scope) == (RefusalReason.STALE_EPOCH, "1")


async def test_a_process_that_knows_no_epoch_adopts_the_one_in_force(room: Admission) -> None:
    await room.ledger.rebuild(7, [], [])
    gate = LocalGate(room.gate, jitter=lambda: 0.0)

    grant = granted(await gate.admit(an_ask(epoch=gate.epoch)))

    assert (grant.epoch, gate.epoch) == (7, 7)


async def test_what_was_open_at_a_rebuild_is_settled_afterwards_exactly_once(room: Admission, clock: Clock) -> None:
    live, lost = await reserve(room, 100, name="live"), await reserve(room, 40, name="lost")
    await room.gate.configure(limits(), 3)
    await room.wire.command("FLUSHALL")
    carried = [OpenReservation(grant=live), OpenReservation(grant=lost, suspended=True)]

    assert await room.ledger.rebuild(2, [balance_of(c, 200, 140) for c in ALL], carried, [(limits(), 3)])

    assert await room.ledger.suspended() == ([lost.stamp], 0)
    assert await room.gate.settle(post(live, 70))
    assert not await room.gate.settle(post(live, 70))
    assert await room.ledger.resolve(release(lost))
    assert [await money(room, counter) for counter in ALL] == [(270, 0)] * 3
    snapshot = await room.gate.snapshot(TARGET)
    assert snapshot is not None
    assert snapshot.version == 3


async def test_a_carried_reservation_runs_out_like_any_other(room: Admission, clock: Clock) -> None:
    live = await reserve(room, 100)
    assert await room.ledger.rebuild(2, [balance_of(c, 0, 100) for c in ALL], [OpenReservation(grant=live)])
    clock.pass_seconds(661)

    assert await room.gate.expire() == [live.stamp]


async def test_a_rebuild_forgets_what_postgres_does_not_know(room: Admission) -> None:
    orphan = await reserve(room, 100)

    assert await room.ledger.rebuild(2, [balance_of(GLOBAL, 5, 0)], [])

    assert [await money(room, counter) for counter in ALL] == [(5, 0), (0, 0), (0, 0)]
    assert not await room.gate.settle(post(orphan, 100))


async def test_a_later_rebuild_wins_over_an_earlier_one_that_is_under_way(room: Admission) -> None:
    async def second_leader() -> bool:
        return await room.ledger.rebuild(6, [balance_of(GLOBAL, 66, 0)], [])

    first = asyncio.create_task(room.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)] * 200, []))
    second = asyncio.create_task(second_leader())
    results = await asyncio.gather(first, second)

    assert results[1] is True
    assert await room.ledger.epoch() == 6
    assert await money(room, GLOBAL) == (66, 0)


async def test_a_leader_that_was_paused_does_not_rebuild_over_a_newer_epoch(room: Admission) -> None:
    assert await room.ledger.rebuild(6, [balance_of(GLOBAL, 66, 0)], [])

    assert not await room.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)], [])

    assert await room.ledger.epoch() == 6
    assert await money(room, GLOBAL) == (66, 0)


async def test_a_redis_wiped_in_the_middle_of_a_rebuild_stays_closed(room: Admission) -> None:
    rebuilding = asyncio.create_task(room.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)] * 300, []))
    while await room.wire.command("HGET", room.keys.counter(GLOBAL), "s") != b"55":  # noqa: ASYNC110 - polls a server
        await asyncio.sleep(0)
    names = await room.wire.command("KEYS", room.keys.epoch.removesuffix("epoch") + "*")
    await room.wire.command("DEL", *names)

    assert await rebuilding is False
    assert await room.ledger.epoch() is None
    assert refused(await room.gate.admit(an_ask(epoch=5))).reason is RefusalReason.NOT_READY


async def test_the_epoch_key_never_stands_beside_counters_of_another_epoch(room: Admission) -> None:
    rebuilding = asyncio.create_task(room.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)] * 100, []))
    seen = set()
    while not rebuilding.done():
        before = await room.ledger.epoch()
        settled, _ = await money(room, GLOBAL)
        seen.add((before, settled, await room.ledger.epoch()))

    assert await rebuilding
    assert all(settled == 55 for before, settled, _ in seen if before == 5)
    assert all(after != 1 for _, settled, after in seen if settled == 55)


# One slot


class Watching(Wire):
    """Remembers the keys of every script call."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: list[tuple[str, Sequence[str]]] = []

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> object:
        self.calls.append((script.name, keys))
        return await super().run(script, keys, args)


async def test_all_keys_of_every_call_lie_in_one_slot(redis_url: str) -> None:
    odd = BudgetCounter(scope="user:{x}", window="w{y}", limit_nano_usd=NanoUsd(100))
    async with Watching(redis_url) as wire:
        gate = Gate(wire, keys := Keys(f"odd{{}}{uuid.uuid4().hex}"))
        ledger = Ledger(wire, keys, gate)
        await ledger.rebuild(1, [balance_of(odd, 0, 0)], [], [(limits(tokens_per_minute=None), 1)])
        grant = granted(await gate.admit(an_ask(cost_nano_usd=NanoUsd(90), counters=(odd, *ALL))))
        await gate.settle(post(grant, 90))
        await gate.penalize(TARGET, Penalty(wait_ms=1))
        await gate.expire()
        await ledger.pin_limits([odd])
        await ledger.rebuild(2, [], [OpenReservation(grant=grant)])

    assert {script for script, _ in wire.calls} == {
        "admit",
        "settle",
        "penalize",
        "configure",
        "expire",
        "limit",
        "rebuild",
    }
    assert len({key_slot(key.encode()) for _, names in wire.calls for key in names}) == 1
    assert all(re.fullmatch(r"\{penstock\}:[^{}]*", key) for _, names in wire.calls for key in names)


HOUR_US = 3_600_000_000


def paced(limit: int, ahead: float = 0.1, scope: str = "global") -> BudgetCounter:
    """A counter of the hour in which tests begin."""
    pace = Pace(starts_at=moment_of(START_US), ends_at=moment_of(START_US + HOUR_US), ahead=ahead)
    return replace(a_counter(limit, scope=scope), pace=pace)


async def test_a_pace_allows_the_passed_part_of_its_window_and_a_part_ahead(room: Admission, clock: Clock) -> None:
    counter = paced(1_000)
    await reserve(room, 100, [counter])

    ahead = refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(counter,))))

    assert (ahead.reason, ahead.scope, ahead.opens_in_ms) == (RefusalReason.PACE, "global", 720_000)
    assert await money(room, counter) == (0, 100)
    clock.pass_seconds(719.9)
    refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(counter,))))
    clock.pass_seconds(0.2)
    await reserve(room, 200, [counter])


async def test_a_paced_budget_can_be_spent_to_its_last_nano_dollar_and_no_more(room: Admission, clock: Clock) -> None:
    counter = paced(1_000)
    clock.pass_seconds(3_000)
    await reserve(room, 600, [counter])
    clock.pass_seconds(240)  # nine tenths of the window, and the tenth ahead

    await reserve(room, 400, [counter])

    spent = refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(1), counters=(counter,))))
    assert spent.reason is RefusalReason.BUDGET


async def test_what_is_spent_for_good_is_told_before_what_is_ahead_of_its_pace(room: Admission) -> None:
    both = (paced(1_000), a_counter(150, scope="tenant:a"))

    answer = refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=both)))

    assert (answer.reason, answer.scope) == (RefusalReason.BUDGET, "tenant:a")


async def test_of_two_paces_the_one_that_opens_last_is_named(room: Admission) -> None:
    both = (paced(1_000), paced(500, scope="tenant:a"))

    answer = refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=both)))

    assert (answer.scope, answer.opens_in_ms) == ("tenant:a", 1_080_000)


async def test_a_raised_limit_raises_its_pace(room: Admission) -> None:
    counter = paced(1_000)
    refused(await room.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(counter,))))

    await room.ledger.pin_limits([a_counter(2_000)])

    await reserve(room, 200, [counter])
