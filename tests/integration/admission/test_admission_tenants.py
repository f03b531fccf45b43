"""The share of a tenant holds over all targets, costs the others nothing, and comes back as calls end."""

from dataclasses import replace
from itertools import pairwise

import pytest

from admission.connect import Admission
from admission.ledger import OpenReservation
from admission.state import unpack
from schemas.admission import Ask, Grant, Refusal, RefusalReason, SettleKind, Settlement, Wait, WaitReason
from schemas.ids import AttemptId, TenantId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.tenants import TenantShare
from tests.support.admission_fixture import TARGET, Clock, a_counter, an_ask, granted, limits, refused, waiting

OTHER = Target(account="acme", model="other")
GREEDY, MODEST = TenantId("greedy"), TenantId("modest")


def share(tenant_id: TenantId = GREEDY, **facts: int) -> TenantShare:
    return TenantShare(tenant_id=tenant_id, **facts)  # type: ignore[arg-type]  # names are checked by the dataclass


def shared(number: int | str, given: TenantShare, **changes: object) -> Ask:
    return an_ask(number, share=given, **changes)


def settled(grant: Grant, kind: SettleKind = SettleKind.POST, tokens: int = 0) -> Settlement:
    return Settlement(grant=grant, kind=kind, actual_tokens=tokens)


async def under_way(admission: Admission, tenant_id: TenantId = GREEDY) -> int:
    return int(await admission.wire.command("ZCARD", admission.keys.tenant_in_flight(tenant_id)))


async def test_requests_of_a_tenant_count_over_all_targets(admission: Admission) -> None:
    one_in_six_seconds = share(requests_per_minute=10)
    granted(await admission.gate.admit(shared(1, one_in_six_seconds)))

    wait = waiting(await admission.gate.admit(shared(2, one_in_six_seconds, target=OTHER)))

    assert wait.reason is WaitReason.TENANT_REQUESTS
    assert 4_000 <= wait.retry_after_ms <= 6_000
    granted(await admission.gate.admit(shared(3, share(MODEST, requests_per_minute=10))))


async def test_the_wait_for_tokens_is_true_to_the_millisecond(admission: Admission, clock: Clock) -> None:
    a_second_each = share(tokens_per_minute=6_000)
    granted(await admission.gate.admit(shared(1, a_second_each, tokens=6_000, lane=Lane.CRITICAL)))
    wait = waiting(await admission.gate.admit(shared(2, a_second_each, tokens=100, lane=Lane.CRITICAL)))
    assert wait.reason is WaitReason.TENANT_TOKENS

    clock.pass_seconds(wait.retry_after_ms / 1_000 - 0.002)
    waiting(await admission.gate.admit(shared(3, a_second_each, tokens=100, lane=Lane.CRITICAL, has_share_ticket=True)))
    clock.pass_seconds(0.002)
    granted(await admission.gate.admit(shared(4, a_second_each, tokens=100, lane=Lane.CRITICAL, has_share_ticket=True)))


async def test_waiting_for_a_share_draws_no_ticket_of_the_bucket(admission: Admission) -> None:
    await admission.gate.configure(limits(), 1)
    before = await admission.wire.command("GET", admission.keys.bucket(TARGET))
    little = share(requests_per_minute=1)
    granted(await admission.gate.admit(shared(0, little, target=OTHER)))

    for number in range(1, 50):
        waiting(await admission.gate.admit(shared(number, little)))

    after = await admission.wire.command("GET", admission.keys.bucket(TARGET))
    assert unpack(after)["ticket"] == unpack(before)["ticket"] == (0, 0, 0, 0)


async def test_waiting_for_the_bucket_takes_nothing_of_the_share(admission: Admission) -> None:
    await admission.gate.configure(limits(), 1)
    plenty = share(requests_per_minute=60, calls_in_flight=5)

    waiting(await admission.gate.admit(shared(1, plenty, tokens=50_000)))

    assert await under_way(admission) == 0
    assert await admission.wire.command("GET", admission.keys.tenant_rates(GREEDY)) is None


async def test_a_share_that_says_no_reserves_no_money(admission: Admission) -> None:
    counter = a_counter(1_000)
    little = share(calls_in_flight=1)
    asks = [shared(number, little, counters=(counter,), cost_nano_usd=10) for number in range(3)]

    answers = [await admission.gate.admit(ask) for ask in asks]

    assert [type(answer) for answer in answers] == [Grant, Wait, Wait]
    [balance] = await admission.gate.budgets([counter])
    assert balance.reserved_nano_usd == 10


async def test_those_who_wait_for_a_share_come_back_one_after_the_other(admission: Admission) -> None:
    six_a_minute = share(requests_per_minute=6)
    granted(await admission.gate.admit(shared(0, six_a_minute)))

    waits = [waiting(await admission.gate.admit(shared(number, six_a_minute))) for number in range(1, 5)]

    assert {later.retry_after_ms - wait.retry_after_ms for wait, later in pairwise(waits)} == {10_000}


async def test_a_raised_limit_voids_the_tickets_drawn_under_the_old_limit(admission: Admission) -> None:
    for number in range(100):
        await admission.gate.admit(shared(number, share(requests_per_minute=1)))

    raised = waiting(await admission.gate.admit(shared("later", share(requests_per_minute=2))))

    assert raised.retry_after_ms <= 120_000


@pytest.mark.parametrize("kind", SettleKind)
async def test_a_call_that_ends_gives_its_place_back(admission: Admission, kind: SettleKind) -> None:
    one = share(calls_in_flight=1)
    first = granted(await admission.gate.admit(shared(1, one)))
    assert waiting(await admission.gate.admit(shared(2, one, target=OTHER))).reason is WaitReason.TENANT_IN_FLIGHT

    assert await admission.gate.settle(settled(first, kind))

    granted(await admission.gate.admit(shared(3, one, target=OTHER)))


async def test_an_unsettled_reservation_keeps_its_place_until_it_expires(admission: Admission, clock: Clock) -> None:
    one = share(calls_in_flight=1)
    granted(await admission.gate.admit(shared(1, one)))

    clock.pass_seconds(661)

    granted(await admission.gate.admit(shared(2, one, target=OTHER)))
    assert await under_way(admission) == 1


async def test_tokens_that_were_not_used_come_back_to_the_share(admission: Admission) -> None:
    little = share(tokens_per_minute=1_000)
    large = granted(await admission.gate.admit(shared(1, little, tokens=1_000)))
    waiting(await admission.gate.admit(shared(2, little, tokens=10)))

    await admission.gate.settle(settled(large, tokens=10))

    granted(await admission.gate.admit(shared(3, little, tokens=10, has_share_ticket=True)))


async def test_a_call_larger_than_a_minute_of_the_share_is_refused_for_good(admission: Admission) -> None:
    answer = await admission.gate.admit(shared(1, share(tokens_per_minute=1_000), tokens=1_001))

    assert refused(answer) == Refusal(reason=RefusalReason.TENANT_TOO_LARGE)


async def test_critical_calls_of_a_tenant_come_before_its_own_backlog(admission: Admission) -> None:
    little = share(tokens_per_minute=60_000)
    number = 0
    while isinstance(await admission.gate.admit(shared(f"low{number}", little, lane=Lane.LOW)), Grant):
        number += 1

    granted(await admission.gate.admit(shared("urgent", little, lane=Lane.CRITICAL)))


async def test_whoever_finds_a_stamp_can_give_its_place_back(admission: Admission) -> None:
    counter = a_counter(1_000)
    ask = replace(shared(1, share(calls_in_flight=1), counters=(counter,)), family="large")
    granted(await admission.gate.admit(ask))
    [(attempt_id, stamp)] = await admission.gate.stamps_of(ask.bucket, [AttemptId("att_1")])

    found = Grant(stamp=stamp, wait_ms=0, tokens=0, cost_nano_usd=ask.cost_nano_usd, target=TARGET, epoch=1)
    assert await admission.gate.settle(Settlement(grant=found, kind=SettleKind.RELEASE))

    assert attempt_id == "att_1"
    assert await under_way(admission) == 0


async def test_a_rebuilt_ledger_still_counts_the_calls_under_way(admission: Admission) -> None:
    one = share(calls_in_flight=1)
    grant = granted(await admission.gate.admit(shared(1, one)))
    await admission.wire.command("DEL", admission.keys.tenant_in_flight(GREEDY))

    assert await admission.ledger.rebuild(2, [], [OpenReservation(grant=grant)])

    waiting(await admission.gate.admit(shared(2, one, epoch=2)))


async def test_without_a_share_no_key_of_a_tenant_is_touched(admission: Admission) -> None:
    grant = granted(await admission.gate.admit(an_ask(1)))
    await admission.gate.settle(settled(grant))

    names = await admission.wire.command("KEYS", "{penstock}:*tenant-*")
    assert [name for name in names if admission.keys.epoch.rsplit(":", 1)[0] in name.decode()] == []


async def test_a_snapshot_shows_what_a_tenant_uses_of_its_share(admission: Admission, clock: Clock) -> None:
    given = share(requests_per_minute=60, tokens_per_minute=6_000, calls_in_flight=10)
    grants = [granted(await admission.gate.admit(shared(number, given, tokens=100))) for number in range(4)]

    [used, unused] = await admission.gate.share_snapshots([GREEDY, MODEST])

    assert (used.in_flight, used.full_in_seconds) == (4, (4.0, 4.0))
    assert used.ticket_ms[Lane.NORMAL] == 0
    assert (unused.in_flight, unused.full_in_seconds) == (0, (0.0, 0.0))

    clock.pass_seconds(30)
    [later] = await admission.gate.share_snapshots([GREEDY])
    assert (later.full_in_seconds, later.seconds_per_call) == ((0.0, 0.0), 30.0)
    await admission.gate.settle(settled(grants[0]))
    [ended] = await admission.gate.share_snapshots([GREEDY])
    assert ended.in_flight == 3
    assert ended.seconds_per_call < 1


async def test_a_snapshot_shows_the_tickets_of_those_who_wait(admission: Admission) -> None:
    given = share(calls_in_flight=1)
    granted(await admission.gate.admit(shared(0, given)))
    waits = [waiting(await admission.gate.admit(shared(number, given))) for number in range(1, 4)]

    [used] = await admission.gate.share_snapshots([GREEDY])

    assert used.ticket_ms[Lane.NORMAL] >= waits[-1].retry_after_ms
    assert used.ticket_ms[Lane.LOW] == 0


async def test_an_expired_reservation_is_no_call_in_flight(admission: Admission, clock: Clock) -> None:
    granted(await admission.gate.admit(shared(0, share(calls_in_flight=1))))

    clock.pass_seconds(3_600)

    [used] = await admission.gate.share_snapshots([GREEDY])
    assert used.in_flight == 0
