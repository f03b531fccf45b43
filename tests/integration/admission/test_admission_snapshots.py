"""What a snapshot says of a bucket is what the gate does: how much passes, and why nothing does."""

import pytest

from admission.connect import Admission
from admission.limits import LimitsSnapshot, ShutBy
from schemas.admission import Grant, LimitFigures, Penalty, WaitReason
from schemas.ids import JobId
from schemas.lanes import Lane
from tests.support.admission_fixture import TARGET, Clock, an_ask, granted, limits

RATE = 60_000
SECONDS = 10
SLOW_DOWN, REFUSAL = Penalty(wait_ms=1_000, ramp=True), Penalty(wait_ms=1_000)
HALF_THE_RATE = Penalty(
    wait_ms=1_000,
    limit=WaitReason.TOKENS,
    figures=LimitFigures(limit=RATE // 2, used=RATE // 2, requested=500, wait_ms=1_000),
)


async def seen(admission: Admission) -> LimitsSnapshot:
    snapshot = await admission.gate.snapshot(TARGET)
    assert snapshot is not None
    return snapshot


async def tokens_let_through(admission: Admission, clock: Clock) -> int:
    """By asking all the time, in the lane that leaves nothing to others."""
    tokens = 0
    for step in range(SECONDS * 10):
        clock.pass_seconds(0.1)
        while isinstance(await admission.gate.admit(an_ask(f"{step} {tokens}", lane=Lane.CRITICAL)), Grant):
            tokens += 100
    return tokens


@pytest.mark.parametrize(
    ("penalties", "share"),
    [
        ([], 1.0),
        ([SLOW_DOWN], 0.5),
        ([REFUSAL], 0.9),
        ([REFUSAL, SLOW_DOWN], 0.45),
        ([HALF_THE_RATE], 0.5),
        ([HALF_THE_RATE, SLOW_DOWN], 0.25),
        ([HALF_THE_RATE, REFUSAL], 0.5),
        ([REFUSAL, HALF_THE_RATE], 0.5),
    ],
)
async def test_what_is_effective_is_what_the_gate_lets_through(
    admission: Admission, clock: Clock, penalties: list[Penalty], share: float
) -> None:
    await admission.gate.configure(limits(tokens_per_minute=RATE), 1)
    for penalty in penalties:
        await admission.gate.penalize(TARGET, penalty)
        clock.pass_seconds(1)

    said = await seen(admission)
    passed = await tokens_let_through(admission, clock)

    assert said.tokens_per_minute.effective == pytest.approx(RATE * share, rel=0.01)
    assert passed * 60 / SECONDS == pytest.approx(RATE * share, rel=0.04)


async def test_a_limit_of_a_day_is_cut_by_no_refusal(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(tokens_per_day=5_000_000), 1)
    await admission.gate.penalize(TARGET, SLOW_DOWN)

    assert (await seen(admission)).tokens_per_day.effective == pytest.approx(5_000_000)


@pytest.mark.parametrize(
    ("penalties", "shut_by"),
    [
        ([(0, REFUSAL)], ShutBy.RETRY_AFTER),
        ([(0, SLOW_DOWN)], ShutBy.SLOW_DOWN),
        ([(0, SLOW_DOWN), (0, SLOW_DOWN)], ShutBy.SLOW_DOWN),
        ([(0, REFUSAL), (0.5, SLOW_DOWN)], ShutBy.SLOW_DOWN),
        ([(0, SLOW_DOWN), (0.5, REFUSAL)], ShutBy.RETRY_AFTER),
        ([(0, REFUSAL), (60, SLOW_DOWN)], ShutBy.SLOW_DOWN),
        ([(0, SLOW_DOWN), (5, REFUSAL)], ShutBy.RETRY_AFTER),
        ([(0, SLOW_DOWN), (300, REFUSAL)], ShutBy.RETRY_AFTER),
        ([(0, SLOW_DOWN), (20, HALF_THE_RATE)], ShutBy.RETRY_AFTER),
        ([(0, HALF_THE_RATE), (20, SLOW_DOWN), (20, REFUSAL)], ShutBy.RETRY_AFTER),
    ],
)
async def test_a_freeze_says_which_refusal_it_came_from(
    admission: Admission, clock: Clock, penalties: list[tuple[float, Penalty]], shut_by: ShutBy
) -> None:
    await admission.gate.configure(limits(), 1)
    before = (await seen(admission)).shut_by
    for seconds, penalty in penalties:
        clock.pass_seconds(seconds)
        await admission.gate.penalize(TARGET, penalty)

    during = await seen(admission)
    clock.pass_seconds(1)
    after = await seen(admission)

    assert (before, during.shut_by, after.shut_by) == (None, shut_by, None)
    assert (during.frozen_ms, after.frozen_ms) == (1_000, 0)


async def test_a_freeze_comes_from_the_refusal_that_set_its_end(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)
    await admission.gate.penalize(TARGET, Penalty(wait_ms=90_000))
    clock.pass_seconds(1)
    await admission.gate.penalize(TARGET, SLOW_DOWN)
    shorter = await seen(admission)
    await admission.gate.penalize(TARGET, Penalty(wait_ms=120_000, ramp=True))
    longer = await seen(admission)

    assert (shorter.shut_by, longer.shut_by) == (ShutBy.RETRY_AFTER, ShutBy.SLOW_DOWN)


@pytest.mark.parametrize("command", [("DEL",), ("SET", "a word of tomorrow")])
async def test_a_freeze_by_a_version_with_other_words_is_told_as_a_429(
    admission: Admission, command: tuple[str, ...]
) -> None:
    await admission.gate.configure(limits(), 1)
    await admission.gate.penalize(TARGET, SLOW_DOWN)
    verb, *word = command
    await admission.wire.command(verb, admission.keys.frozen_by(TARGET), *word)

    assert (await seen(admission)).shut_by is ShutBy.RETRY_AFTER


async def test_a_stopped_account_says_why_also_while_its_target_is_frozen(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)
    await admission.gate.penalize(TARGET, REFUSAL)
    for job in ("first", "second"):
        await admission.gate.doubt_account(TARGET.account, "insufficient_quota", JobId(job))

    stopped = await seen(admission)
    reasons = [await admission.gate.open_account(TARGET.account) for _ in range(2)]
    clock.pass_seconds(1)
    started = await seen(admission)

    assert (stopped.shut_by, stopped.stopped) == (ShutBy.ACCOUNT_STOPPED, "insufficient_quota")
    assert reasons == ["insufficient_quota", None]
    assert (started.shut_by, started.stopped) == (None, None)
    clock.pass_seconds(1)
    granted(await admission.gate.admit(an_ask()))
