"""Reads `penstock.toml` (providers, models, aliases, lanes, tenants, budgets) into frozen models.

Unknown keys and wrong types refuse to start and name the table, the key and the line.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from config.amounts import SMALLEST_USD
from config.places import line_of
from config.tenants import LaneName, TenantName, TenantTable

PROVIDER_DEFAULT = "openai"
OPENAI_BASE_URL = "https://api.openai.com/v1"

Chain: TypeAlias = Annotated[tuple[str, ...], Strict(strict=False)]
Step: TypeAlias = Literal["cheaper", "cached", "park", "reject"]
"""A step for a job whose budget is exhausted: the next cheaper model of its chain, an earlier answer to the same
request, waiting until the window turns, or a dead letter."""

Steps: TypeAlias = Annotated[
    tuple[Step, ...],
    Strict(strict=False),
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
"""One step, or several to be tried in order."""

BUDGET_SCOPES = ("global", "tenant", "user", "batch", "prompt")
KINDS_WITHIN_TENANTS = frozenset({"user", "prompt"})
"""Kinds of which a tenant chooses the names: their scopes are `KIND:TENANT/NAME`. No tenant's id holds a slash, so the
first one ends it, whatever the name holds."""

MAX_BUDGETS_OF_A_JOB = 8
"""The one admission call reads and writes every counter of a job."""

ServiceTier: TypeAlias = Literal["default", "flex", "scale", "priority", "fast", "batch"]
"""Service tiers of providers, each at its own price."""

HIGHEST_LIMIT_USD = 9_007_199
"""2^53 nano-dollars: up to here the doubles of the scripts are exact."""


class CatalogueError(Exception):
    """`penstock.toml` is not valid; the message names the place and says what to change."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no timezone {name!r}") from None
    return name


class TierPriceTable(_Table):
    """USD per million tokens. Zero is refused, because a model that costs nothing would pass every budget."""

    input: Decimal = Field(ge=SMALLEST_USD, strict=False)
    cached_input: Decimal | None = Field(default=None, ge=SMALLEST_USD, strict=False)
    cache_write: Decimal | None = Field(default=None, ge=SMALLEST_USD, strict=False)
    output: Decimal = Field(ge=SMALLEST_USD, strict=False)


class PriceTable(TierPriceTable):
    """The default prices, and those of other service tiers; a tier that is not named costs the default."""

    tiers: dict[ServiceTier, TierPriceTable] = Field(default_factory=dict)


class ProviderTable(_Table):
    """One account at a provider. `service_tier` is its tier for requests that name none or `auto`."""

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    bills_errors: bool = False
    lookup: bool = False
    service_tier: ServiceTier = "default"


class ModelTable(_Table):
    """Limits and defaults of one model; a limit that is not set is not enforced until headers reveal it.

    A day's limit refills continuously, unless `day_resets_at` ("00:00") is the time at which it resets, in the timezone
    `day_resets_in`. Models of one `family` share their limits: the lowest that any of them sets.
    """

    provider: str = PROVIDER_DEFAULT
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    requests_per_day: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)
    day_resets_at: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    day_resets_in: str = "UTC"
    family: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    max_in_flight: int | None = Field(default=None, ge=1)
    default_max_output_tokens: int = Field(default=1_024, ge=1)
    price: PriceTable | None = None

    @field_validator("day_resets_in")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        return _known_zone(name)


class LaneTable(_Table):
    """The share of a quota that a lane keeps while others want it, and the steps when its money is gone."""

    share: float = Field(ge=0, le=1)
    max_wait_seconds: float | None = Field(default=None, gt=0)
    """Accepted, and not used yet."""
    on_exhausted: Steps = ("park",)


DEFAULT_AHEAD = 0.1
"""A tenth of a day's budget may be spent at its start: two hours and a half of an even pace."""


class BudgetTable(_Table):
    """A spending limit for a scope in a window of its timezone. Its own steps precede those of the lane.

    A user or a prompt belongs to a tenant: `user:carol` limits the user of that name in each tenant, `user:acme/carol`
    in one.

    With `pacing = "even"` the spent share of the limit may exceed the elapsed share of the window by `pacing_ahead`.
    """

    scope: str = "global"
    window: Literal["hour", "day", "month"] = "day"
    limit_usd: Decimal = Field(ge=SMALLEST_USD, le=HIGHEST_LIMIT_USD, strict=False)
    timezone: str = "UTC"
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

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        return _known_zone(name)


Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_TIME_OF_DAY = r"^([01]\d|2[0-3]):[0-5]\d$"


class RuleTable(_Table):
    """The most that jobs of these lanes and models may spend per hour between two times of day.

    Without lanes or without models, it applies to all of them. A range that ends earlier than it starts runs over
    midnight, and belongs to the day on which it starts.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    lanes: Annotated[tuple[LaneName, ...], Strict(strict=False)] = ()
    models: Chain = ()
    starts: str = Field(alias="from", pattern=_TIME_OF_DAY)
    ends: str = Field(alias="to", pattern=_TIME_OF_DAY)
    timezone: str = "UTC"
    days: Annotated[tuple[Day, ...], Strict(strict=False), Field(min_length=1)] = get_args(Day)
    usd_per_hour: Decimal = Field(ge=0, le=HIGHEST_LIMIT_USD, strict=False)

    @field_validator("ends")
    @classmethod
    def _some_time_passes(cls, ends: str, others: ValidationInfo) -> str:
        if ends == others.data.get("starts"):
            raise ValueError("from and to are the same time of day")
        return ends

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        return _known_zone(name)


class WebhookTable(_Table):
    """The address that receives events, and the variable of the secret (`whsec_…`) that signs them."""

    url: str
    secret_env: str = "PENSTOCK_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ValueError("it must be an address that begins with https:// or http://")
        return url


class PrivacyTable(_Table):
    """The stored content of calls. Without it: no request, no reply, and no value quoted in a complaint."""

    store_content: bool = True


class DeadLettersTable(_Table):
    """How long listings keep dead letters; without a number, until somebody discards them."""

    retention_days: int | None = Field(default=None, ge=1, le=36_500)


_SMALL, _LARGE = ("gpt-4.1-mini", "gpt-5-mini"), ("gpt-4.1", "gpt-5")


def _default_models() -> dict[str, ModelTable]:
    known = ModelTable(requests_per_minute=30_000, tokens_per_minute=20_000_000)
    return dict.fromkeys((*_SMALL, *_LARGE), known)


def _default_aliases() -> dict[str, tuple[str, ...]]:
    return {"small": _SMALL[:1], "large": _LARGE[:1]}


def _default_lanes() -> dict[LaneName, LaneTable]:
    return {
        "critical": LaneTable(share=1.0),
        "high": LaneTable(share=0.5),
        "normal": LaneTable(share=0.25),
        "low": LaneTable(share=0.1),
    }


class Catalogue(_Table):
    """The whole file."""

    providers: dict[str, ProviderTable] = Field(default_factory=lambda: {PROVIDER_DEFAULT: ProviderTable()})
    models: dict[str, ModelTable] = Field(default_factory=_default_models)
    aliases: dict[str, Chain] = Field(default_factory=_default_aliases)
    lanes: dict[LaneName, LaneTable] = Field(default_factory=_default_lanes)
    budgets: tuple[BudgetTable, ...] = Field(default=(), strict=False)
    rules: tuple[RuleTable, ...] = Field(default=(), strict=False)
    tenants: dict[TenantName, TenantTable] = Field(default_factory=dict)
    privacy: PrivacyTable = PrivacyTable()
    dead_letters: DeadLettersTable = DeadLettersTable()
    webhooks: WebhookTable | None = None

    @field_validator("budgets")
    @classmethod
    def _jobs_meet_few_budgets(cls, budgets: tuple[BudgetTable, ...]) -> tuple[BudgetTable, ...]:
        check_budgets(budgets)
        return budgets

    @model_validator(mode="after")
    def _rules_name_what_there_is(self) -> Self:
        name, times = next(iter(Counter(rule.name for rule in self.rules).most_common(1)), ("", 0))
        if times > 1:
            raise ValueError(f"[[rules]] has {times} rules of the name {name!r}")
        for rule in self.rules:
            if missing := [model for model in rule.models if model not in self.models]:
                raise ValueError(f"[[rules]] {rule.name} must name configured models, not aliases; unknown: {missing}")
        check_budgets(self.budgets, rules=len(self.rules))
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, model in self.models.items():
            if model.provider not in self.providers:
                raise ValueError(f'[models."{name}"] names the provider {model.provider!r}, which has no table')
            if model.family in self.models:
                raise ValueError(f'[models."{name}"] names the family {model.family!r}, which is a model')
        for alias, chain in self.aliases.items():
            missing = [name for name in chain if name not in self.models]
            if missing or not chain:
                raise ValueError(f"[aliases] {alias} must name configured models; unknown: {missing}")
        return self


def check_budgets(budgets: tuple[BudgetTable, ...], *, rules: int = 0) -> None:
    """Raise ValueError for two limits of the same money, or more than eight on one job.

    Each rule may be in force besides the budgets.
    """
    keys = Counter((budget.scope, budget.window, budget.timezone) for budget in budgets)
    (scope, window, zone), times = next(iter(keys.most_common(1)), (("", "", ""), 0))
    if times > 1:
        raise ValueError(f"{scope!r} has {times} budgets per {window} in {zone}; it can have one")
    most = sum(_most_of_kind(kind, keys) for kind in BUDGET_SCOPES) + rules
    if most > MAX_BUDGETS_OF_A_JOB:
        named = f"{most} budgets and rules" if rules else f"{most} budgets"
        raise ValueError(f"a job could count against {named}; at most {MAX_BUDGETS_OF_A_JOB} are possible")


def _most_of_kind(kind: str, keys: Iterable[tuple[str, str, str]]) -> int:
    """Return the most windows that one job meets in scopes of this kind.

    These are the windows of the kind itself, plus those of the name that has most.
    """
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


def load_catalogue(path: Path) -> Catalogue:
    """Read the file, or return the built-in default if there is none. Raises CatalogueError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Catalogue()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: cannot be read: {error}") from error
    try:
        return Catalogue.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{path}: {error}") from error
    except ValidationError as error:
        raise CatalogueError("\n".join(_complaint(path, text, part) for part in error.errors())) from None


def _complaint(path: Path, text: str, part: object) -> str:
    found = dict(part)  # type: ignore[call-overload]  # a TypedDict of pydantic's
    steps = [str(step) for step in found["loc"]]
    line = line_of(text, found["loc"])
    place = f"{path}:{line}" if line else str(path)
    message = found["msg"].removeprefix("Value error, ")
    return f"{place}: {'.'.join(steps)}: {message}".replace(": :", ":")
