"""Reads the effective limits, lanes and budgets.

An operator's change overrides `penstock.toml`, and reaches each process within seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from admission.days import DayResets
from admission.limits import TargetLimits, fitting_shares
from config.amounts import MAX_BUDGETS_OF_A_JOB
from config.budgets import DEFAULT_AHEAD, BudgetTable, RuleTable, check_budgets
from config.catalogue import Catalogue, ModelTable
from schemas.admission import BudgetCounter, Step
from schemas.errors import InvalidRequest, InvalidSetting
from schemas.ids import TenantId
from schemas.job import NewJob, Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import nano_from_usd
from schemas.tenants import TenantShare
from storage.tenancy.configuration import ConfigRow
from tasks.budgets.counters import PARKED, Budget, Window, counters_for
from tasks.budgets.spend_rules import Rule, rule_from, ruling
from tasks.tenancy.shares import TENANT_OF, Shares, share_values, shares_from

LIMITS_OF = "limits/"
LANES, ON_EXHAUSTED = "lanes", "lanes/on_exhausted"
BUDGET_OF = "budget/"
RULES = "rules"
OWNED = (BUDGET_OF, TENANT_OF)
"""Values with these prefixes end when the file no longer has them."""
_DIMENSIONS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day", "max_in_flight")
_DAY = ("day_resets_at", "day_resets_in")


NO_SHARES = Shares()
"""Shares before the first read. One object, because it keeps what it builds for each tenant."""


class ConfigRows(Protocol):
    """Reads the effective values."""

    async def all(self) -> Sequence[ConfigRow]:
        """Read every value with its version."""


class SettingRows(ConfigRows, Protocol):
    """Reads and changes the effective values."""

    async def set(self, name: str, value: Any) -> ConfigRow:  # noqa: ANN401 - any JSON value
        """Write a value under a new version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effective:
    """Holds the configuration in force. Each version of a target's limits only grows."""

    limits: tuple[tuple[TargetLimits, int], ...] = ()
    families: Mapping[Target, str] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    rules: tuple[Rule, ...] = ()
    on_exhausted: Mapping[Lane, tuple[Step, ...]] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)

    def counters(self, job: NewJob, target: Target, now: datetime) -> tuple[BudgetCounter, ...]:
        """Return counters that must cover a call of this job. Raises InvalidSetting beyond eight."""
        steps = self.on_exhausted.get(job.lane, PARKED)
        counters = (
            *counters_for(job, self.budgets, now, steps),
            *ruling(self.rules, job.lane, target.model, now, steps),
        )
        if len(counters) > MAX_BUDGETS_OF_A_JOB:
            raise InvalidSetting(f"More than {MAX_BUDGETS_OF_A_JOB} budgets and rules count this job.")
        return counters


class Configuration:
    """Keeps the configuration that this process last read."""

    def __init__(self, rows: ConfigRows) -> None:
        self._rows = rows
        self.effective: Effective | None = None
        """None before the first read, when nothing may be sent."""

    async def refresh(self) -> Effective:
        """Read the configuration. Raises PostgresUnavailable, and keeps the last one then."""
        self.effective = effective_from(await self._rows.all())
        return self.effective

    def family_of(self, target: Target) -> str | None:
        """Return the family whose limits a target shares."""
        return self.effective.families.get(target) if self.effective is not None else None

    def bucket_of(self, target: Target) -> Target:
        """Return the target whose limits count this one's calls: itself, or its family."""
        family = self.family_of(target)
        return target if family is None else Target(account=target.account, model=family)

    def share(self, tenant_id: TenantId) -> TenantShare:
        """Return a share, without configured limits before the first read."""
        return (NO_SHARES if self.effective is None else self.effective.shares).of(tenant_id)

    @property
    def limits_calls(self) -> bool:
        """Whether the gate must count any tenant's calls."""
        return self.effective is not None and self.effective.shares.limits_calls

    def check(self, job: NewJob) -> None:
        """Raises InvalidRequest for a job that too many budgets count."""
        if self.effective is not None:
            try:
                counters_for(job, self.effective.budgets, job.expires_at)
            except InvalidSetting as error:
                raise InvalidRequest(error.message) from error


def values_of(catalogue: Catalogue) -> dict[str, Any]:
    """Return the file's settings by name."""
    return {
        **{f"{LIMITS_OF}{model.provider}/{name}": _limits_value(model) for name, model in catalogue.models.items()},
        LANES: {name: lane.share for name, lane in catalogue.lanes.items()},
        ON_EXHAUSTED: {name: list(lane.on_exhausted) for name, lane in catalogue.lanes.items()},
        RULES: [rule.model_dump(mode="json", by_alias=True) for rule in catalogue.rules],
        **{budget_row_name(budget): _budget_value(budget) for budget in catalogue.budgets},
        **share_values(catalogue.tenants),
    }


def budget_row_name(table: BudgetTable) -> str:
    """Name a budget's row; each budget has its own."""
    return f"{BUDGET_OF}{table.window}/{table.timezone}/{table.scope}"


async def set_budget(rows: SettingRows, change: JsonObject) -> ConfigRow:
    """Store an operator's change. Raises InvalidRequest."""
    try:
        table = BudgetTable.model_validate(change)
        stored = await rows.all()
        others = [BudgetTable.model_validate(row.value) for row in stored if _is_budget(row)]
        unchanged = (other for other in others if budget_row_name(other) != budget_row_name(table))
        check_budgets((*unchanged, table), rules=len(effective_from(stored).rules))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        named = ".".join(str(step) for step in wrong["loc"])
        raise InvalidRequest(f"{named}: {wrong['msg'].removeprefix('Value error, ')}", param=named) from None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return await rows.set(budget_row_name(table), _budget_value(table))


def effective_from(rows: Sequence[ConfigRow]) -> Effective:
    """Parse the rows. A target's version sums its own row's and the lanes' row's.

    A family's version sums all rows of limits instead, so that it does not fall when a model leaves.
    """
    named = {row.name: row for row in rows}
    lanes, steps = named.get(LANES), named.get(ON_EXHAUSTED)
    lanes_version = lanes.version if lanes else 0
    shares = {Lane(name): float(share) for name, share in (lanes.value if lanes else {}).items()}
    limited = [row for row in rows if row.name.startswith(LIMITS_OF) and row.value is not None]
    return Effective(
        limits=_all_limits(limited, shares, lanes_version),
        families={_target(row.name): row.value["family"] for row in limited if row.value.get("family")},
        budgets=tuple(_budget(row) for row in rows if _is_budget(row)),
        rules=_rules(named.get(RULES)),
        on_exhausted={Lane(name): _steps(value) for name, value in (steps.value if steps else {}).items()},
        shares=shares_from({row.name: row.value for row in rows}),
    )


def limits_by_target(values: Mapping[str, JsonObject]) -> dict[Target, JsonObject]:
    """Return each model's limits: its own, or the lowest of its family."""
    own = {_target(name): value for name, value in values.items()}
    families: dict[Target, list[JsonObject]] = {}
    for target, value in own.items():
        families.setdefault(_bucket(target, value), []).append(value)
    return {
        target: _tightest(families[_bucket(target, value)]) if value.get("family") else value
        for target, value in own.items()
    }


def _limits_value(table: ModelTable) -> JsonObject:
    return {name: getattr(table, name) for name in (*_DIMENSIONS, *_DAY, "family")}


def _all_limits(
    rows: Sequence[ConfigRow], shares: dict[Lane, float], lanes_version: int
) -> tuple[tuple[TargetLimits, int], ...]:
    families: dict[Target, list[JsonObject]] = {}
    for row in rows:
        if row.value.get("family"):
            families.setdefault(_bucket(_target(row.name), row.value), []).append(row.value)
    alone = [row for row in rows if not row.value.get("family")]
    every_version = sum(row.version for row in rows) + lanes_version
    return (
        *((_target_limits(_target(row.name), row.value, shares), row.version + lanes_version) for row in alone),
        *((_target_limits(family, _tightest(members), shares), every_version) for family, members in families.items()),
    )


def _tightest(members: Sequence[JsonObject]) -> JsonObject:
    """Return the lowest of each limit, and the first end of day."""
    values: JsonObject = {}
    for name in _DIMENSIONS:
        values[name] = min((member[name] for member in members if member.get(name)), default=None)
    return values | next(({name: member[name] for name in _DAY} for member in members if member.get(_DAY[0])), {})


def _bucket(target: Target, value: JsonObject) -> Target:
    family = value.get("family")
    return Target(account=target.account, model=family) if family else target


def _target(name: str) -> Target:
    account, _, model = name.removeprefix(LIMITS_OF).partition("/")
    return Target(account=account, model=model)


def _target_limits(target: Target, value: JsonObject, shares: dict[Lane, float]) -> TargetLimits:
    limits: JsonObject = {name: value.get(name) for name in _DIMENSIONS}
    if shares:
        limits["shares"] = fitting_shares(shares)
    if resets_at := value.get("day_resets_at"):
        zone = ZoneInfo(value.get("day_resets_in") or "UTC")
        limits["day_resets"] = DayResets(at=time.fromisoformat(resets_at), zone=zone)
    return TargetLimits(target=target, **limits)


def _budget_value(table: BudgetTable) -> JsonObject:
    """Omit unset pacing as older versions did, so that the file counts as unchanged."""
    unsaid = {"pacing", "pacing_ahead"} if table.pacing is None else set()
    return {**table.model_dump(mode="json", exclude=unsaid), "limit_usd": str(table.limit_usd)}


def _is_budget(row: ConfigRow) -> bool:
    return row.name.startswith(BUDGET_OF) and row.value is not None


def _budget(row: ConfigRow) -> Budget:
    value, steps = row.value, row.value.get("on_exhausted")
    return Budget(
        scope=value["scope"],
        window=Window(value["window"]),
        limit_nano_usd=nano_from_usd(Decimal(value["limit_usd"])),
        timezone=ZoneInfo(value["timezone"]),
        on_exhausted=None if steps is None else _steps(steps),
        ahead=None if value.get("pacing") is None else value.get("pacing_ahead") or DEFAULT_AHEAD,
        version=row.version,
    )


def _rules(row: ConfigRow | None) -> tuple[Rule, ...]:
    return tuple(rule_from(RuleTable.model_validate(value)) for value in (row.value if row else ()))


def _steps(names: Sequence[str]) -> tuple[Step, ...]:
    return tuple(Step(name) for name in names)
