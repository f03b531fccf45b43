"""The effective configuration: from the file to values, and from values to limits and budgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from admission.days import DayResets
from admission.limits import TargetLimits
from config.budgets import BudgetTable
from config.catalogue import Catalogue, LaneTable, ModelTable
from schemas.errors import InvalidRequest
from schemas.job import Target
from schemas.money import NanoUsd
from storage.tenancy.configuration import ConfigRow
from tasks.budgets.counters import Budget, Window
from tasks.configuration.apply_limits import LimitKeeper
from tasks.configuration.effective import Configuration, Effective, effective_from, set_budget, values_of
from tests.support.fakes import a_job

TARGET = Target(account="openai", model="m/1")
CATALOGUE = Catalogue(
    models={"m/1": ModelTable(requests_per_minute=60, tokens_per_minute=6_000, max_in_flight=7)},
    aliases={},
    lanes={"low": LaneTable(share=0.1), "high": LaneTable(share=0.4)},
    budgets=(BudgetTable(scope="tenant:acme", window="month", limit_usd=Decimal("12.5"), timezone="Asia/Tokyo"),),
)


def rows_of(catalogue: Catalogue, **versions: int) -> list[ConfigRow]:
    return [
        ConfigRow(
            name=name,
            version=versions.get(name, 1),
            value=value,
            source="file",
            changed_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for name, value in values_of(catalogue).items()
    ]


@dataclass
class Rows:
    found: list[ConfigRow]

    async def all(self) -> Sequence[ConfigRow]:
        return self.found


@dataclass
class Gate:
    configured: list[tuple[TargetLimits, int]] = field(default_factory=list)

    async def configure(self, limits: TargetLimits, version: int) -> bool:
        self.configured.append((limits, version))
        return True


def test_what_the_file_says_comes_back_as_limits_and_budgets() -> None:
    effective = effective_from(rows_of(CATALOGUE))

    [(limits, version)] = effective.limits
    assert (limits.target, limits.requests_per_minute, limits.tokens_per_minute, limits.max_in_flight) == (
        TARGET,
        60,
        6_000,
        7,
    )
    assert limits.shares == (0.0, 0.4, 0.0, 0.1)
    assert version == 2
    assert effective.budgets == (
        Budget(
            scope="tenant:acme",
            window=Window.MONTH,
            limit_nano_usd=NanoUsd(12_500_000_000),
            timezone=ZoneInfo("Asia/Tokyo"),
        ),
    )


def test_a_change_of_the_lanes_is_a_new_version_of_every_limit() -> None:
    [(_, before)] = effective_from(rows_of(CATALOGUE)).limits
    [(_, after)] = effective_from(rows_of(CATALOGUE, lanes=2)).limits

    assert after == before + 1


def test_no_rows_are_no_limits_and_no_budgets() -> None:
    assert effective_from([]) == Effective()


class Settable(Rows):
    async def set(self, name: str, value: object) -> ConfigRow:
        row = ConfigRow(
            name=name, version=7, value=value, source="operator", changed_at=datetime(2026, 1, 1, tzinfo=UTC)
        )
        self.found = [kept for kept in self.found if kept.name != name] + [row]
        return row


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone.*Mars/Olympus"),
        ({"scope": "planet"}, "scope.*planet"),
        ({"scope": "tenant:"}, "scope.*tenant"),
        ({"scope": "global:all"}, "scope.*global"),
        ({"window": "week"}, "window"),
        ({"limit_usd": "-1"}, "limit_usd"),
        ({"limit_usd": 10_000_000}, "limit_usd"),
        ({"on_exhausted": ["beg"]}, "on_exhausted"),
        ({"pacing": "odd"}, "pacing"),
        ({"pacing": "even", "pacing_ahead": -0.1}, "pacing_ahead"),
        ({"pacing_ahead": 0.1}, "pacing_ahead.*without pacing"),
    ],
)
async def test_a_budget_that_cannot_be_kept_is_refused_by_name(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        await set_budget(Settable([]), {"limit_usd": 1} | wrong)


async def test_an_operator_changes_one_budget_and_leaves_the_others() -> None:
    rows = Settable(rows_of(CATALOGUE))

    await set_budget(rows, {"scope": "global", "window": "hour", "limit_usd": "2"})
    await set_budget(rows, {"scope": "tenant:acme", "window": "month", "timezone": "Asia/Tokyo", "limit_usd": "99"})

    found = {budget.scope: budget for budget in effective_from(rows.found).budgets}
    assert found["global"].limit_nano_usd == 2_000_000_000
    assert (found["tenant:acme"].limit_nano_usd, found["tenant:acme"].version) == (99_000_000_000, 7)


async def test_an_operator_is_told_of_the_ninth_budget() -> None:
    rows = Settable([])
    for zone in ("UTC", "Asia/Tokyo", "Europe/Berlin"):
        for window in ("hour", "day"):
            await set_budget(rows, {"window": window, "timezone": zone, "limit_usd": 1})
    await set_budget(rows, {"scope": "tenant", "limit_usd": 1})
    await set_budget(rows, {"scope": "tenant:acme", "window": "hour", "limit_usd": 1})

    await set_budget(rows, {"scope": "tenant:other", "window": "hour", "limit_usd": 1})
    with pytest.raises(InvalidRequest, match="9 budgets"):
        await set_budget(rows, {"scope": "user", "limit_usd": 1})


async def test_a_job_that_too_many_budgets_count_is_refused_at_the_door() -> None:
    budgets = [a_budget_row(number) for number in range(9)]
    configuration = Configuration(Rows(budgets))
    configuration.check(a_job())  # nothing is known yet, so nothing can be said
    await configuration.refresh()

    with pytest.raises(InvalidRequest, match="9 budgets"):
        configuration.check(a_job())


def a_budget_row(number: int) -> ConfigRow:
    """As an older version, which did not count them, may have left it."""
    value = {"scope": "global", "window": "day", "limit_usd": "1", "timezone": "UTC"}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return ConfigRow(name=f"budget/day/UTC/{number}", version=1, value=value, source="file", changed_at=moment)


def test_a_budget_that_left_the_file_is_none() -> None:
    [row] = [row for row in rows_of(CATALOGUE) if row.name.startswith("budget/")]

    assert effective_from([replace(row, value=None)]).budgets == ()


async def test_nothing_is_known_before_the_first_reading() -> None:
    configuration = Configuration(Rows(rows_of(CATALOGUE)))

    assert configuration.effective is None
    await configuration.refresh()

    assert configuration.effective is not None
    assert len(configuration.effective.limits) == 1


async def test_limits_are_written_to_the_gate_once_per_version() -> None:
    rows, gate = Rows(rows_of(CATALOGUE)), Gate()
    keeper = LimitKeeper(gate.configure, Configuration(rows))

    assert [await keeper.apply(), await keeper.apply()] == [1, 0]
    rows.found = rows_of(CATALOGUE, lanes=2)

    assert await keeper.apply() == 1
    assert [version for _, version in gate.configured] == [2, 3]


class Refusing(Gate):
    """A gate that cannot take the limits of one target."""

    async def configure(self, limits: TargetLimits, version: int) -> bool:
        if limits.target == TARGET:
            raise OverflowError
        return await super().configure(limits, version)


async def test_limits_that_cannot_be_written_hold_up_no_others() -> None:
    rows, gate = Rows(rows_of(replace_models({"m/1": ModelTable(), "m/2": ModelTable()}))), Refusing()

    written = await LimitKeeper(gate.configure, Configuration(rows)).apply()

    assert written == 1
    assert [limits.target.model for limits, _ in gate.configured] == ["m/2"]


def test_a_family_has_its_models_lowest_limits_and_its_version_only_grows() -> None:
    members = {
        "a": ModelTable(requests_per_minute=60, family="large"),
        "b": ModelTable(requests_per_minute=40, tokens_per_minute=9_000, family="large", day_resets_at="06:30"),
    }
    rows = rows_of(replace_models(members | {"c": ModelTable()}))
    left = rows_of(replace_models({"a": members["a"], "b": ModelTable(), "c": ModelTable()}), **{"limits/openai/b": 2})

    effective = effective_from(rows)
    versions = {limits.target.model: version for limits, version in effective.limits}
    [family] = [limits for limits, _ in effective.limits if limits.target.model == "large"]

    assert set(versions) == {"c", "large"}
    assert (family.requests_per_minute, family.tokens_per_minute) == (40, 9_000)
    assert family.day_resets == DayResets(at=time(6, 30), zone=ZoneInfo("UTC"))
    assert effective.families == {Target(account="openai", model=name): "large" for name in "ab"}
    later = {limits.target.model: version for limits, version in effective_from(left).limits}
    assert later["large"] > versions["large"]


def replace_models(models: dict[str, ModelTable]) -> Catalogue:
    return Catalogue(models=models, aliases={})


def test_a_pace_is_read_with_its_part_ahead_and_written_only_where_given() -> None:
    tables = (
        BudgetTable(limit_usd=Decimal(1), pacing="even"),
        BudgetTable(scope="tenant", limit_usd=Decimal(1), pacing="even", pacing_ahead=0.5),
        BudgetTable(scope="user", limit_usd=Decimal(1)),
    )
    rows = rows_of(Catalogue(budgets=tables))

    assert {budget.scope: budget.ahead for budget in effective_from(rows).budgets} == {
        "global": 0.1,
        "tenant": 0.5,
        "user": None,
    }
    [unpaced] = [row for row in rows if row.name.endswith("/user")]
    assert set(unpaced.value) == {"scope", "window", "limit_usd", "timezone", "on_exhausted"}
