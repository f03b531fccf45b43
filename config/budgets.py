"""`[[budgets]]` and `[[rules]]` of penstock.toml: who may spend how much, in which window."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field, Strict, ValidationInfo, field_validator

from config.amounts import MAX_BUDGETS_OF_A_JOB, SMALLEST_USD
from config.tables import TIME_OF_DAY, Chain, Table, Zone
from config.tenants import LaneName

Step: TypeAlias = Literal["cheaper", "cached", "park", "reject"]
"""For a job with an exhausted budget: the next cheaper model of its chain, an earlier answer to the same request,
waiting until the window turns, or a dead letter."""

Steps: TypeAlias = Annotated[
    tuple[Step, ...],
    Strict(strict=False),
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
"""One step, or several in order."""

BUDGET_SCOPES = ("global", "tenant", "user", "batch", "prompt")
KINDS_WITHIN_TENANTS = frozenset({"user", "prompt"})
"""Kinds named by tenants: their scopes are `KIND:TENANT/NAME`, split at the first slash."""

HIGHEST_LIMIT_USD = 9_007_199
"""2^53 nano-dollars: the scripts' doubles are exact up to here."""

DEFAULT_AHEAD = 0.1
"""A tenth of a day's budget may be spent at its start."""


class BudgetTable(Table):
    """A spending limit for a scope in a window; its steps precede those of the lane.

    `user:carol` limits that user in each tenant, `user:acme/carol` in one. With `pacing = "even"` the spent share may
    exceed the elapsed share of the window by `pacing_ahead`.
    """

    scope: str = "global"
    window: Literal["hour", "day", "month"] = "day"
    limit_usd: Decimal = Field(ge=SMALLEST_USD, le=HIGHEST_LIMIT_USD, strict=False)
    timezone: Zone = "UTC"
    on_exhausted: Steps | None = None
    pacing: Literal["even"] | None = None
    pacing_ahead: float | None = Field(default=None, gt=0, le=1)

    @field_validator("pacing_ahead")
    @classmethod
    def _something_is_paced(cls, ahead: float | None, others: ValidationInfo) -> float | None:
        if ahead is not None and others.data.get("pacing") is None:
            raise ValueError('it says nothing without pacing = "even"')
        return ahead

    @field_validator("scope")
    @classmethod
    def _scope_is_known(cls, scope: str) -> str:
        kind, colon, name = scope.partition(":")
        if kind not in BUDGET_SCOPES or (colon and (not name or kind == "global")):
            raise ValueError(f"{scope!r} is no scope; it must be one of {', '.join(BUDGET_SCOPES)}, or KIND:NAME")
        return scope


Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class RuleTable(Table):
    """The most that jobs may spend per hour between two times of day.

    Without lanes or models it applies to all. A range that ends earlier than it starts runs over midnight and belongs
    to the day of its start.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    lanes: Annotated[tuple[LaneName, ...], Strict(strict=False)] = ()
    models: Chain = ()
    starts: str = Field(alias="from", pattern=TIME_OF_DAY)
    ends: str = Field(alias="to", pattern=TIME_OF_DAY)
    timezone: Zone = "UTC"
    days: Annotated[tuple[Day, ...], Strict(strict=False), Field(min_length=1)] = get_args(Day)
    usd_per_hour: Decimal = Field(ge=0, le=HIGHEST_LIMIT_USD, strict=False)

    @field_validator("ends")
    @classmethod
    def _some_time_passes(cls, ends: str, others: ValidationInfo) -> str:
        if ends == others.data.get("starts"):
            raise ValueError("from and to are the same time of day")
        return ends


def check_budgets(budgets: tuple[BudgetTable, ...], *, rules: int = 0) -> None:
    """Raise ValueError for two limits of the same money, or more than eight on one job."""
    keys = Counter((budget.scope, budget.window, budget.timezone) for budget in budgets)
    (scope, window, zone), times = next(iter(keys.most_common(1)), (("", "", ""), 0))
    if times > 1:
        raise ValueError(f"{scope!r} has {times} budgets per {window} in {zone}; it can have one")
    most = sum(_most_of_kind(kind, keys) for kind in BUDGET_SCOPES) + rules
    if most > MAX_BUDGETS_OF_A_JOB:
        counted = f"{most} budgets and rules" if rules else f"{most} budgets"
        raise ValueError(f"a job could count against {counted}; at most {MAX_BUDGETS_OF_A_JOB} are possible")


def _most_of_kind(kind: str, keys: Iterable[tuple[str, str, str]]) -> int:
    """Adds the windows of the kind itself to those of the name with most."""
    windows: dict[str, set[tuple[str, str]]] = {}
    for scope, window, zone in keys:
        if scope.partition(":")[0] == kind:
            windows.setdefault(scope, set()).add((window, zone))
    of_each = windows.pop(kind, set())
    if kind in KINDS_WITHIN_TENANTS:  # `user:acme/carol` is met by who meets `user:carol`
        windows = {scope: named | windows.get(_at_each_tenant(scope), set()) for scope, named in windows.items()}
    return max((len(of_each | named) for named in windows.values()), default=len(of_each))


def _at_each_tenant(scope: str) -> str:
    kind, _, name = scope.partition(":")
    return f"{kind}:{name.partition('/')[2]}"
