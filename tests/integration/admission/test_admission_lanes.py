"""Lanes under load, in virtual time: critical does not wait, low gets its share, large ones come through in order."""

import pytest

from admission.connect import Admission
from admission.state import DEFAULT_SHARES, unpack
from schemas.admission import Ask, Penalty, RefusalReason, SettleKind, Settlement, WaitReason
from schemas.lanes import Lane
from schemas.money import NanoUsd
from tests.support.admission_fixture import TARGET, Clock, a_counter, an_ask, granted, limits, refused, waiting
from tests.support.crowd import Crowd, seconds

TOKENS_PER_SECOND = 50_000
HORIZON_MS = 50
WAITERS = 2_048


@pytest.fixture
async def crowd(admission: Admission, clock: Clock) -> Crowd:
    """A bucket that refills 500 usual requests a second and is full."""
    await admission.gate.configure(limits(tokens_per_minute=60 * TOKENS_PER_SECOND), 1)
    clock.pass_seconds(10)
    return Crowd(admission.gate, clock)


def flood(lane: Lane, many: int, tokens: int = 100) -> list[Ask]:
    return [an_ask(f"{lane}_{tokens}_{n}", lane=lane, tokens=tokens, horizon_ms=HORIZON_MS) for n in range(many)]


async def level_ms(admission: Admission, clock: Clock) -> float:
    packed = await admission.wire.command("GET", admission.keys.bucket(TARGET))
    state = unpack(packed)
    return (state["burst"][0] - max(0.0, state["tat"][1] - clock.now_us)) / 1_000


async def test_critical_does_not_wait_behind_low_and_low_is_served_in_order(crowd: Crowd) -> None:
    start = crowd.clock.now_us
    crowd.join(flood(Lane.LOW, WAITERS), at_us=start)
    crowd.join(flood(Lane.CRITICAL, 40), at_us=start + seconds(0.01), apart_us=seconds(0.083))

    await crowd.until(start + seconds(8))

    critical, low = crowd.of(Lane.CRITICAL), crowd.of(Lane.LOW)
    assert len(critical) == 40
    assert max(one.waited_ms for one in critical) <= 1
    assert len(low) == WAITERS
    assert sum(one.asks for one in low) / WAITERS <= 3
    assert max(one.waited_ms for one in low) <= 1.1 * 1_000 * (WAITERS + 40) * 100 / TOKENS_PER_SECOND


async def test_low_alone_uses_the_whole_rate(crowd: Crowd) -> None:
    start = crowd.clock.now_us
    crowd.join(flood(Lane.LOW, WAITERS), at_us=start)

    await crowd.until(start + seconds(1))
    early = crowd.tokens()
    await crowd.until(start + seconds(3))

    assert crowd.tokens() - early == pytest.approx(2 * TOKENS_PER_SECOND, rel=0.03)


async def test_a_saturated_high_leaves_lanes_their_share_and_critical_no_wait(crowd: Crowd) -> None:
    start = crowd.clock.now_us
    crowd.join(flood(Lane.HIGH, 4_200), at_us=start, apart_us=seconds(0.00125))
    crowd.join(flood(Lane.LOW, 800), at_us=start)
    crowd.join(flood(Lane.CRITICAL, 25), at_us=start + seconds(1), apart_us=seconds(0.16))

    await crowd.until(start + seconds(1))
    before = crowd.tokens(Lane.LOW)
    await crowd.until(start + seconds(5))

    share = (crowd.tokens(Lane.LOW) - before) / (4 * TOKENS_PER_SECOND)
    assert share == pytest.approx(DEFAULT_SHARES[Lane.LOW.rank], rel=0.3)
    assert max(one.waited_ms for one in crowd.of(Lane.CRITICAL)) <= 10


@pytest.mark.parametrize("tokens", [25_000, 60_000])
async def test_a_large_job_is_not_overtaken_for_ever(crowd: Crowd, tokens: int) -> None:
    start = crowd.clock.now_us
    crowd.join(flood(Lane.LOW, 3_600), at_us=start, apart_us=seconds(0.0019))
    crowd.join(flood(Lane.LOW, 3, tokens=tokens), at_us=start + seconds(0.5), apart_us=seconds(1.4))

    await crowd.until(start + seconds(6.8))

    assert len([one for one in crowd.starts if one.ask.tokens == tokens]) == 3


async def test_uniformly_large_jobs_keep_their_order(crowd: Crowd) -> None:
    start = crowd.clock.now_us
    crowd.join(flood(Lane.LOW, 60, tokens=10_000), at_us=start, apart_us=seconds(0.02))

    await crowd.until(start + seconds(15))

    order = [int(one.ask.attempt_id.rpartition("_")[2]) for one in crowd.of(Lane.LOW)]
    assert len(order) == 60
    assert max(abs(place - number) for place, number in enumerate(order)) <= 15


async def test_a_newcomer_stands_behind_tickets_unless_the_bucket_shows_surplus(
    admission: Admission, clock: Clock
) -> None:
    await admission.gate.configure(limits(shares=(0.0, 0.0, 0.0, 0.0)), 1)
    clock.pass_seconds(1)
    granted(await admission.gate.admit(an_ask(tokens=700)))
    assert waiting(await admission.gate.admit(an_ask(tokens=300))).reason is WaitReason.TOKENS
    clock.pass_seconds(0.05)

    newcomer, holder = an_ask(tokens=100), an_ask(tokens=100, has_ticket=True)
    assert waiting(await admission.gate.admit(newcomer)).retry_after_ms > 0
    granted(await admission.gate.admit(holder))

    clock.pass_seconds(0.35)
    granted(await admission.gate.admit(newcomer))


async def test_a_future_grant_never_takes_what_is_kept_for_critical(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)
    clock.pass_seconds(1)

    for number in range(40):
        await admission.gate.admit(an_ask(number, lane=Lane.HIGH, tokens=100, horizon_ms=10_000))

    assert await level_ms(admission, clock) >= 0


async def test_a_share_is_charged_only_for_what_it_let_in(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)
    clock.pass_seconds(1)
    for number in range(6):
        granted(await admission.gate.admit(an_ask(number, lane=Lane.LOW, tokens=100)))

    granted(await admission.gate.admit(an_ask("by its share", lane=Lane.LOW, tokens=100)))
    again = await admission.gate.admit(an_ask("again", lane=Lane.LOW, tokens=100))

    assert waiting(again).reason is WaitReason.TOKENS


async def test_too_large_is_said_at_once_whatever_else_is_exhausted(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)
    spent = (a_counter(1),)

    answer = refused(await admission.gate.admit(an_ask(tokens=60_001, cost_nano_usd=NanoUsd(5), counters=spent)))

    assert answer.reason is RefusalReason.TOO_LARGE


async def test_some_slots_are_kept_for_critical_and_a_settlement_frees_one(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(tokens_per_minute=None, max_in_flight=20), 1)
    grants = [granted(await admission.gate.admit(an_ask(n))) for n in range(19)]

    assert waiting(await admission.gate.admit(an_ask("normal"))).reason is WaitReason.IN_FLIGHT
    granted(await admission.gate.admit(an_ask("critical", lane=Lane.CRITICAL)))
    assert waiting(await admission.gate.admit(an_ask("more", lane=Lane.CRITICAL))).reason is WaitReason.IN_FLIGHT

    for one in grants[:2]:
        await admission.gate.settle(Settlement(grant=one, kind=SettleKind.RELEASE))
    granted(await admission.gate.admit(an_ask("again", has_ticket=True)))


async def test_after_a_freeze_everybody_starts_from_an_empty_bucket(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)
    clock.pass_seconds(5)

    await admission.gate.penalize(TARGET, Penalty(wait_ms=2_000))

    for lane in Lane:
        frozen = waiting(await admission.gate.admit(an_ask(lane, lane=lane)))
        assert frozen.retry_after_ms >= 2_000
    clock.pass_seconds(2)
    assert await level_ms(admission, clock) == pytest.approx(0, abs=1)
