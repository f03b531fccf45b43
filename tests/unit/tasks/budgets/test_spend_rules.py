"""A rule is in force between two times of day as people in its zone live them, and lets so much be spent per hour."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from config.budgets import BudgetTable, RuleTable
from config.catalogue import Catalogue, ModelTable
from schemas.admission import BudgetCounter, Refusal, RefusalReason, Step
from schemas.decision import Park
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd
from tasks.budgets.policy import about_exhausted
from tasks.budgets.spend_rules import Rule, rule_from
from tasks.configuration.effective import effective_from
from tests.support.fakes import a_job
from tests.unit.tasks.configuration.test_effective import rows_of

WORK = {"name": "work", "from": "09:00", "to": "18:00", "timezone": "Europe/Berlin", "usd_per_hour": 0}
NIGHT = {"name": "night", "from": "22:00", "to": "06:30", "timezone": "Europe/Berlin", "usd_per_hour": "1.5"}


def rule(table: dict[str, object], **changes: object) -> Rule:
    return rule_from(RuleTable.model_validate(table | changes))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("table", "now", "until"),
    [
        (WORK, "2026-11-24T07:59:59", None),
        (WORK, "2026-11-24T08:00", "2026-11-24T17:00"),
        (WORK, "2026-11-24T16:59:59", "2026-11-24T17:00"),
        (WORK, "2026-11-24T17:00", None),
        (WORK, "2026-07-01T07:00", "2026-07-01T16:00"),
        (NIGHT, "2026-11-24T20:59", None),
        (NIGHT, "2026-11-24T21:00", "2026-11-25T05:30"),
        (NIGHT, "2026-11-25T05:29", "2026-11-25T05:30"),
        (NIGHT, "2026-03-28T21:00", "2026-03-29T04:30"),
        (NIGHT, "2026-10-24T20:00", "2026-10-25T05:30"),
        (NIGHT | {"days": ["fri"]}, "2026-11-28T03:00", "2026-11-28T05:30"),
        (NIGHT | {"days": ["fri"]}, "2026-11-27T03:00", None),
        (NIGHT | {"days": ["sat"]}, "2026-11-28T03:00", None),
        (WORK | {"from": "02:30", "to": "03:30"}, "2026-03-29T01:29", None),
        (WORK | {"from": "02:30", "to": "03:30"}, "2026-10-25T00:30", "2026-10-25T02:30"),
    ],
)
def test_it_is_in_force_as_people_in_its_zone_live_the_day(
    table: dict[str, object], now: str, until: str | None
) -> None:
    assert rule(table).in_force_until(at(now)) == (at(until) if until else None)


def test_an_hourly_limit_is_a_counter_of_the_hour_and_ends_with_its_rule() -> None:
    counter = rule(NIGHT).counter(at("2026-11-25T05:10"), (Step.REJECT,))

    assert counter == BudgetCounter(
        scope="rule:night", window="2026-11-25T06+0100@Europe/Berlin", limit_nano_usd=NanoUsd(1_500_000_000)
    )
    assert counter is not None
    assert (counter.ends_at, counter.on_exhausted) == (at("2026-11-25T05:30"), (Step.REJECT,))


def test_a_rule_that_lets_nothing_be_spent_is_closed_until_it_ends() -> None:
    counter = rule(WORK).counter(at("2026-11-24T08:00"))

    assert counter is not None
    assert (counter.limit_nano_usd, counter.ends_at) == (0, at("2026-11-24T17:00"))


def test_only_jobs_of_its_lanes_and_models_meet_a_rule() -> None:
    tables = (RuleTable.model_validate(WORK | {"lanes": ["low"], "models": ["m"]}),)
    catalogue = Catalogue(
        models={"m": ModelTable(), "n": ModelTable()},
        aliases={},
        rules=tables,
        budgets=(BudgetTable(limit_usd=Decimal(1)),),
    )
    effective, now = effective_from(rows_of(catalogue)), at("2026-11-24T08:00")

    def scopes(lane: Lane, model: str) -> list[str]:
        counters = effective.counters(a_job(lane=lane), Target(account="openai", model=model), now)
        return [counter.scope for counter in counters]

    assert scopes(Lane.LOW, "m") == ["global", "rule:work"]
    assert scopes(Lane.HIGH, "m") == scopes(Lane.LOW, "n") == ["global"]


def test_who_meets_a_closed_rule_waits_until_it_ends_and_is_no_dead_letter() -> None:
    now = at("2026-11-24T08:00")
    counter = rule(WORK).counter(now)
    refusal = Refusal(reason=RefusalReason.BUDGET, counter=counter, asked_nano_usd=NanoUsd(5))

    early, late = (about_exhausted(refusal, {}, now=now, jitter=jitter) for jitter in (0.0, 1.0))

    assert isinstance(early, Park)
    assert isinstance(late, Park)
    assert (early.until_at, early.reason) == (at("2026-11-24T17:00"), "rule")
    assert (late.until_at - early.until_at).total_seconds() == 60
