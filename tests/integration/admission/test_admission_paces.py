"""Paces: a budget opens with the time that has passed of its window."""

from dataclasses import replace

from admission.connect import Admission
from schemas.admission import BudgetCounter, Pace, RefusalReason
from schemas.money import NanoUsd
from tests.support.admission_fixture import START_US, Clock, a_counter, an_ask, moment_of, refused
from tests.support.admission_money import money, reserve

HOUR_US = 3_600_000_000


def paced(limit: int, ahead: float = 0.1, scope: str = "global") -> BudgetCounter:
    """A counter of the hour in which tests begin."""
    pace = Pace(starts_at=moment_of(START_US), ends_at=moment_of(START_US + HOUR_US), ahead=ahead)
    return replace(a_counter(limit, scope=scope), pace=pace)


async def test_a_pace_allows_the_passed_part_of_its_window_and_a_part_ahead(admission: Admission, clock: Clock) -> None:
    counter = paced(1_000)
    await reserve(admission, 100, [counter])

    ahead = refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(counter,))))

    assert (ahead.reason, ahead.scope, ahead.opens_in_ms) == (RefusalReason.PACE, "global", 720_000)
    assert await money(admission, counter) == (0, 100)
    clock.pass_seconds(719.9)
    refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(counter,))))
    clock.pass_seconds(0.2)
    await reserve(admission, 200, [counter])


async def test_a_paced_budget_can_be_spent_to_its_last_nano_dollar_and_no_more(
    admission: Admission, clock: Clock
) -> None:
    counter = paced(1_000)
    clock.pass_seconds(3_000)
    await reserve(admission, 600, [counter])
    clock.pass_seconds(240)  # nine tenths of the window, and the tenth ahead

    await reserve(admission, 400, [counter])

    spent = refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(1), counters=(counter,))))
    assert spent.reason is RefusalReason.BUDGET


async def test_what_is_spent_for_good_is_told_before_what_is_ahead_of_its_pace(admission: Admission) -> None:
    both = (paced(1_000), a_counter(150, scope="tenant:a"))

    answer = refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=both)))

    assert (answer.reason, answer.scope) == (RefusalReason.BUDGET, "tenant:a")


async def test_of_two_paces_the_one_that_opens_last_is_named(admission: Admission) -> None:
    both = (paced(1_000), paced(500, scope="tenant:a"))

    answer = refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=both)))

    assert (answer.scope, answer.opens_in_ms) == ("tenant:a", 1_080_000)


async def test_a_raised_limit_raises_its_pace(admission: Admission) -> None:
    counter = paced(1_000)
    refused(await admission.gate.admit(an_ask(cost_nano_usd=NanoUsd(200), counters=(counter,))))

    await admission.ledger.pin_limits([a_counter(2_000)])

    await reserve(admission, 200, [counter])
