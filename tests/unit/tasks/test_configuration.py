"""The effective configuration: from the file to values, and from values to limits and budgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from admission.limits import TargetLimits
from config.catalogue import BudgetTable, Catalogue, LaneTable, ModelTable
from schemas.errors import InvalidSetting
from schemas.job import Target
from schemas.money import NanoUsd
from storage.config_rows import ConfigRow
from tasks.budgets import Budget, Window
from tasks.configuration import Configuration, Effective, effective_from, values_of
from tasks.limits import LimitKeeper

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


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"scope": "planet"}, "planet"),
        ({"limit_usd": Decimal(10_000_000)}, "limit_usd"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_by_name(wrong: dict[str, object], word: str) -> None:
    given: dict[str, object] = {"limit_usd": Decimal(1)} | wrong
    budget = BudgetTable(**given)  # type: ignore[arg-type]  # wrong on purpose

    with pytest.raises(InvalidSetting, match=word):
        values_of(Catalogue(budgets=(budget,)))


async def test_nothing_is_known_before_the_first_reading() -> None:
    configuration = Configuration(Rows(rows_of(CATALOGUE)))

    assert configuration.effective is None
    await configuration.refresh()

    assert configuration.effective is not None
    assert len(configuration.effective.limits) == 1


async def test_limits_are_written_to_the_gate_once_per_version() -> None:
    rows, gate = Rows(rows_of(CATALOGUE)), Gate()
    keeper = LimitKeeper(gate, Configuration(rows))

    assert [await keeper.apply(), await keeper.apply()] == [1, 0]
    rows.found = rows_of(CATALOGUE, lanes=2)

    assert await keeper.apply() == 1
    assert [version for _, version in gate.configured] == [2, 3]
