"""Epochs: a rebuild closes the ledger, replaces it and opens it under a new epoch."""

import asyncio

import pytest

from admission.connect import Admission
from admission.ledger import OpenReservation
from admission.local_gate import LocalGate
from schemas.admission import RefusalReason
from tests.support.admission_fixture import TARGET, Clock, an_ask, granted, limits, refused
from tests.support.admission_money import COUNTERS, GLOBAL, balance_of, money, post, release, reserve


async def test_without_an_epoch_nothing_is_granted(admission: Admission) -> None:
    await admission.wire.command("DEL", admission.keys.epoch)

    assert refused(await admission.gate.admit(an_ask())).reason is RefusalReason.NOT_READY


@pytest.mark.parametrize("epoch", [0, 2])
async def test_an_ask_of_another_epoch_is_told_the_one_in_force(admission: Admission, epoch: int) -> None:
    answer = refused(await admission.gate.admit(an_ask(epoch=epoch)))

    assert (answer.reason, answer.scope) == (RefusalReason.STALE_EPOCH, "1")


async def test_a_process_that_knows_no_epoch_adopts_the_one_in_force(admission: Admission) -> None:
    await admission.ledger.rebuild(7, [], [])
    gate = LocalGate(admission.gate, jitter=lambda: 0.0)

    grant = granted(await gate.admit(an_ask(epoch=gate.epoch)))

    assert (grant.epoch, gate.epoch) == (7, 7)


async def test_what_was_open_at_a_rebuild_is_settled_afterwards_exactly_once(
    admission: Admission, clock: Clock
) -> None:
    live, lost = await reserve(admission, 100, name="live"), await reserve(admission, 40, name="lost")
    await admission.gate.configure(limits(), 3)
    await admission.wire.command("FLUSHALL")
    carried = [OpenReservation(grant=live), OpenReservation(grant=lost, suspended=True)]

    assert await admission.ledger.rebuild(2, [balance_of(c, 200, 140) for c in COUNTERS], carried, [(limits(), 3)])

    assert await admission.ledger.suspended() == ([lost.stamp], 0)
    assert await admission.gate.settle(post(live, 70))
    assert not await admission.gate.settle(post(live, 70))
    assert await admission.ledger.resolve(release(lost))
    assert [await money(admission, counter) for counter in COUNTERS] == [(270, 0)] * 3
    snapshot = await admission.gate.snapshot(TARGET)
    assert snapshot is not None
    assert snapshot.version == 3


async def test_a_carried_reservation_runs_out_like_any_other(admission: Admission, clock: Clock) -> None:
    live = await reserve(admission, 100)
    assert await admission.ledger.rebuild(2, [balance_of(c, 0, 100) for c in COUNTERS], [OpenReservation(grant=live)])
    clock.pass_seconds(661)

    assert await admission.gate.expire() == [live.stamp]


async def test_a_rebuild_forgets_what_postgres_does_not_know(admission: Admission) -> None:
    orphan = await reserve(admission, 100)

    assert await admission.ledger.rebuild(2, [balance_of(GLOBAL, 5, 0)], [])

    assert [await money(admission, counter) for counter in COUNTERS] == [(5, 0), (0, 0), (0, 0)]
    assert not await admission.gate.settle(post(orphan, 100))


async def test_a_later_rebuild_wins_over_an_earlier_one_that_is_under_way(admission: Admission) -> None:
    async def second_leader() -> bool:
        return await admission.ledger.rebuild(6, [balance_of(GLOBAL, 66, 0)], [])

    first = asyncio.create_task(admission.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)] * 200, []))
    second = asyncio.create_task(second_leader())
    results = await asyncio.gather(first, second)

    assert results[1] is True
    assert await admission.ledger.epoch() == 6
    assert await money(admission, GLOBAL) == (66, 0)


async def test_a_leader_that_was_paused_does_not_rebuild_over_a_newer_epoch(admission: Admission) -> None:
    assert await admission.ledger.rebuild(6, [balance_of(GLOBAL, 66, 0)], [])

    assert not await admission.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)], [])

    assert await admission.ledger.epoch() == 6
    assert await money(admission, GLOBAL) == (66, 0)


async def test_a_redis_wiped_in_the_middle_of_a_rebuild_stays_closed(admission: Admission) -> None:
    rebuilding = asyncio.create_task(admission.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)] * 300, []))
    while await admission.wire.command("HGET", admission.keys.counter(GLOBAL), "s") != b"55":  # noqa: ASYNC110 - polls a server
        await asyncio.sleep(0)
    names = await admission.wire.command("KEYS", admission.keys.epoch.removesuffix("epoch") + "*")
    await admission.wire.command("DEL", *names)

    assert await rebuilding is False
    assert await admission.ledger.epoch() is None
    assert refused(await admission.gate.admit(an_ask(epoch=5))).reason is RefusalReason.NOT_READY


async def test_the_epoch_key_never_stands_beside_counters_of_another_epoch(admission: Admission) -> None:
    rebuilding = asyncio.create_task(admission.ledger.rebuild(5, [balance_of(GLOBAL, 55, 0)] * 100, []))
    seen = set()
    while not rebuilding.done():
        before = await admission.ledger.epoch()
        settled, _ = await money(admission, GLOBAL)
        seen.add((before, settled, await admission.ledger.epoch()))

    assert await rebuilding
    assert all(settled == 55 for before, settled, _ in seen if before == 5)
    assert all(after != 1 for _, settled, after in seen if settled == 55)
