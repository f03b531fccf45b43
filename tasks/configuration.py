"""The effective limits, lanes and budgets: what `penstock.toml` says, unless an operator has said otherwise since.

Postgres holds them as named values with versions; a process reads them again every few seconds, so a change needs no
restart. Parsing here is the only place that knows the names and the shapes of the values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from admission.limits import TargetLimits, fitting_shares
from config.catalogue import BudgetTable, Catalogue, ModelTable
from schemas.errors import InvalidSetting
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd, nano_from_usd
from storage.config_rows import ConfigRow
from tasks.budgets import SCOPE_KINDS, Budget, Window

log = structlog.get_logger()

LIMITS_OF = "limits/"
LANES, BUDGETS = "lanes", "budgets"
HIGHEST_EXACT_NANO_USD = 2**53
"""Doubles in Lua count whole nano-dollars exactly up to here: about nine million dollars."""

_DIMENSIONS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day", "max_in_flight")


class ConfigRows(Protocol):
    """Where the effective values are kept."""

    async def all(self) -> Sequence[ConfigRow]:
        """Every value with its version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effective:
    """What is in force. Each target's limits carry a version that only grows."""

    limits: tuple[tuple[TargetLimits, int], ...] = ()
    budgets: tuple[Budget, ...] = ()


class Configuration:
    """The values in force as this process last read them."""

    def __init__(self, rows: ConfigRows) -> None:
        self._rows = rows
        self.effective: Effective | None = None
        """None until they were read once: nothing may be sent before its budgets are known."""

    async def refresh(self) -> Effective:
        """Read them again. Raises PostgresUnavailable, and then what was known stays in force."""
        self.effective = effective_from(await self._rows.all())
        return self.effective


def values_of(catalogue: Catalogue) -> dict[str, Any]:
    """The named values of the file. Raises InvalidSetting for a budget that cannot be kept."""
    for budget in catalogue.budgets:
        _budget(budget.model_dump(mode="json"))
    return {
        **{_limits_name(name, model): _limits_value(model) for name, model in catalogue.models.items()},
        LANES: {name: lane.share for name, lane in catalogue.lanes.items()},
        BUDGETS: [_budget_value(budget) for budget in catalogue.budgets],
    }


def effective_from(rows: Sequence[ConfigRow]) -> Effective:
    """What the rows say. Limits of a target are of the version of its own row and the lanes' together."""
    named = {row.name: row for row in rows}
    lanes, budgets = named.get(LANES), named.get(BUDGETS)
    lanes_version = lanes.version if lanes else 0
    shares = {Lane(name): float(share) for name, share in (lanes.value if lanes else {}).items()}
    return Effective(
        limits=tuple(
            (_target_limits(row, shares), row.version + lanes_version) for row in rows if row.name.startswith(LIMITS_OF)
        ),
        budgets=tuple(_budget(value) for value in (budgets.value if budgets else ())),
    )


def _limits_name(model: str, table: ModelTable) -> str:
    return f"{LIMITS_OF}{table.provider}/{model}"


def _limits_value(table: ModelTable) -> JsonObject:
    return {name: getattr(table, name) for name in _DIMENSIONS}


def _target_limits(row: ConfigRow, shares: dict[Lane, float]) -> TargetLimits:
    account, _, model = row.name.removeprefix(LIMITS_OF).partition("/")
    limits: Mapping[str, int | None] = {name: row.value.get(name) for name in _DIMENSIONS}
    more = {"shares": fitting_shares(shares)} if shares else {}
    return TargetLimits(target=Target(account=account, model=model), **limits, **more)  # type: ignore[arg-type]  # named


def _budget_value(table: BudgetTable) -> JsonObject:
    return {**table.model_dump(mode="json"), "limit_usd": str(table.limit_usd)}


def _budget(value: JsonObject) -> Budget:
    scope, zone = str(value["scope"]), str(value["timezone"])
    if scope.partition(":")[0] not in SCOPE_KINDS:
        raise InvalidSetting(f"[[budgets]] scope = {scope!r}: it must be one of {', '.join(SCOPE_KINDS)}, or KIND:NAME")
    return Budget(
        scope=scope, window=Window(value["window"]), limit_nano_usd=_limit(scope, value), timezone=_zone(scope, zone)
    )


def _limit(scope: str, value: JsonObject) -> NanoUsd:
    limit = nano_from_usd(Decimal(str(value["limit_usd"])))
    if not 0 < limit <= HIGHEST_EXACT_NANO_USD:
        raise InvalidSetting(f"[[budgets]] of {scope!r}: limit_usd must be above 0 and at most 9007199")
    return limit


def _zone(scope: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidSetting(f"[[budgets]] of {scope!r}: there is no timezone {name!r}") from error
