"""What was raised wakes those that wait for it, and nobody else; every change is noted once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from schemas.job import Target
from schemas.jsons import JsonObject
from storage.queue.early_wake import Change, Waiters
from storage.tenancy.configuration import ConfigRow
from tasks.configuration.apply_limits import EarlyWakes, names_leading_to

BUDGET, PACE = Waiters(reason="budget"), Waiters(reason="pace")
CHAINS = {
    "m": (Target(account="a", model="m"),),
    "n": (Target(account="a", model="n"),),
    "alias": (Target(account="a", model="n"), Target(account="a", model="m")),
    "apart": (Target(account="b", model="m"),),
}
NAMES = names_leading_to(CHAINS, CHAINS.__getitem__)
MOMENT = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass
class Parked:
    found: list[Change]
    noted: list[tuple[int, tuple[Waiters, ...]]] = field(default_factory=list)

    async def changes(self) -> Sequence[Change]:
        return self.found

    async def note(self, changes: Sequence[Change], waiters: Collection[Waiters]) -> None:
        self.noted.append((len(changes), tuple(waiters)))


@dataclass(frozen=True)
class Rows:
    """What is in force now."""

    values: Mapping[str, JsonObject | None]

    async def all(self) -> Sequence[ConfigRow]:
        return [
            ConfigRow(name=name, version=2, value=value, source="file", changed_at=MOMENT)
            for name, value in self.values.items()
        ]


def change(name: str, before: JsonObject | None, after: JsonObject | None) -> Change:
    return Change(name=name, version=2, before=before, after=after)


def budget(limit: str, **more: object) -> dict[str, object]:
    return {"scope": "global", "limit_usd": limit} | more


async def woken(*changes: Change, unchanged: Mapping[str, JsonObject] | None = None) -> tuple[Waiters, ...]:
    parked = Parked([*changes])
    rows = Rows({**(unchanged or {}), **{each.name: each.after for each in changes}})
    await EarlyWakes(parked, rows, NAMES).notice()
    [(noted, waiters)] = parked.noted
    assert noted == len(changes)
    return waiters


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ({"requests_per_minute": 5}, {"requests_per_minute": 6}, {"requests_per_minute"}),
        ({"requests_per_minute": 5}, {"requests_per_minute": 4}, set()),
        ({"requests_per_minute": None}, {"requests_per_minute": 4}, set()),
        ({"tokens_per_day": 5}, {"tokens_per_day": None}, {"tokens_per_day"}),
        ({"max_in_flight": 5, "tokens_per_minute": 1}, {"max_in_flight": 6, "tokens_per_minute": 1}, {"in_flight"}),
        ({"requests_per_minute": 5}, None, {"requests_per_minute"}),
        (None, {"requests_per_minute": 5}, set()),
    ],
)
async def test_a_raised_limit_wakes_all_models_that_lead_to_it(
    before: JsonObject | None, after: JsonObject | None, reasons: set[str]
) -> None:
    waiters = await woken(change("limits/a/m", before, after))

    assert set(waiters) == {Waiters(reason=reason, model=model) for reason in reasons for model in ("alias", "m")}


def member(requests_per_minute: int | None, family: str | None = "f") -> JsonObject:
    return {"requests_per_minute": requests_per_minute, "family": family}


@pytest.mark.parametrize(
    ("before", "after", "other", "names"),
    [
        pytest.param(member(5), member(7), member(9), {"m", "n", "alias"}, id="the least is raised"),
        pytest.param(member(5), member(7), member(5), set(), id="another holds as before"),
        pytest.param(member(9), member(12), member(5), set(), id="one that held nobody is raised"),
        pytest.param(member(9), member(5), member(12), set(), id="the least is lowered"),
        pytest.param(member(5), member(5, family=None), member(9), {"n", "alias"}, id="the least leaves"),
        pytest.param(member(5, family=None), member(5), member(9), set(), id="one comes that is the least"),
        pytest.param(member(5, family=None), member(9), member(9), {"m", "alias"}, id="one comes and has more"),
        pytest.param(member(5), None, member(9), {"m", "n", "alias"}, id="the least is gone"),
        pytest.param(member(5), member(None), member(9), {"m", "n", "alias"}, id="the least has no limit now"),
    ],
)
async def test_a_familys_raise_wakes_all_that_lead_to_any_of_its_models(
    before: JsonObject | None, after: JsonObject | None, other: JsonObject, names: set[str]
) -> None:
    unchanged = {"limits/a/n": other, "limits/b/m": member(1)}

    waiters = await woken(change("limits/a/m", before, after), unchanged=unchanged)

    assert set(waiters) == {Waiters(reason="requests_per_minute", model=name) for name in names}


@pytest.mark.parametrize(
    ("before", "after", "wakes"),
    [
        (budget("5"), budget("5.5"), (BUDGET, PACE)),
        (budget("5"), budget("4"), ()),
        (budget("5"), None, (BUDGET, PACE)),
        (budget("5"), budget("5", on_exhausted=["cheaper"]), (BUDGET, PACE)),
        (budget("5", pacing="even"), budget("5"), (BUDGET, PACE)),
        (budget("5", pacing="even"), budget("5", pacing="even", pacing_ahead=0.5), (BUDGET, PACE)),
        (None, budget("5"), ()),
    ],
)
async def test_a_budget_that_gives_more_wakes_those_that_wait_for_money(
    before: JsonObject | None, after: JsonObject | None, wakes: tuple[Waiters, ...]
) -> None:
    assert await woken(change("budget/day/UTC/global", before, after)) == wakes


@pytest.mark.parametrize("before", [None, {"calls_in_flight": 1}])
async def test_another_share_wakes_those_that_wait_for_one(before: JsonObject | None) -> None:
    assert set(await woken(change("tenant/acme", before, {"calls_in_flight": 9}))) == {
        Waiters(reason="tenant_requests"),
        Waiters(reason="tenant_tokens"),
        Waiters(reason="tenant_in_flight"),
    }


async def test_other_values_wake_nobody() -> None:
    assert await woken(change("lanes", {"low": 0.1}, {"low": 0.2})) == ()


async def test_without_a_change_nothing_is_written() -> None:
    parked = Parked([])

    assert await EarlyWakes(parked, Rows({}), NAMES).notice() == 0
    assert parked.noted == []
