"""Reads `penstock.toml` into frozen models.

Unknown keys and wrong types refuse to start and name the table, the key and the line.
"""

import tomllib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from config.amounts import SMALLEST_USD
from config.budgets import BudgetTable, RuleTable, Steps, check_budgets
from config.places import line_of
from config.tables import TIME_OF_DAY, Chain, Table, Zone
from config.tenants import LaneName, TenantName, TenantTable

PROVIDER_DEFAULT = "openai"
OPENAI_BASE_URL = "https://api.openai.com/v1"

ServiceTier: TypeAlias = Literal["default", "flex", "scale", "priority", "fast", "batch"]
"""Service tiers, each at its own price."""


class CatalogueError(Exception):
    """`penstock.toml` is not valid; the message says what to change."""


class TierPriceTable(Table):
    """USD per million tokens. Zero is refused, because it would pass every budget."""

    input: Decimal = Field(ge=SMALLEST_USD, strict=False)
    cached_input: Decimal | None = Field(default=None, ge=SMALLEST_USD, strict=False)
    cache_write: Decimal | None = Field(default=None, ge=SMALLEST_USD, strict=False)
    output: Decimal = Field(ge=SMALLEST_USD, strict=False)


class PriceTable(TierPriceTable):
    """Default prices, and those of other tiers; an unnamed tier costs the default."""

    tiers: dict[ServiceTier, TierPriceTable] = Field(default_factory=dict)


class ProviderTable(Table):
    """One account at a provider. `service_tier` applies to requests that name none or `auto`."""

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    bills_errors: bool = False
    lookup: bool = False
    service_tier: ServiceTier = "default"


class ModelTable(Table):
    """Limits and defaults of one model; a missing limit is enforced once headers reveal it.

    A day's limit refills continuously, unless it resets at `day_resets_at` ("00:00") in `day_resets_in`. Models of one
    `family` share the lowest limits of any of them.
    """

    provider: str = PROVIDER_DEFAULT
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    requests_per_day: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)
    day_resets_at: str | None = Field(default=None, pattern=TIME_OF_DAY)
    day_resets_in: Zone = "UTC"
    family: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    max_in_flight: int | None = Field(default=None, ge=1)
    default_max_output_tokens: int = Field(default=1_024, ge=1)
    price: PriceTable | None = None


class LaneTable(Table):
    """The share of a quota that a lane keeps, and its steps when its money is gone."""

    share: float = Field(ge=0, le=1)
    max_wait_seconds: float | None = Field(default=None, gt=0)
    """Accepted, and not used yet."""
    on_exhausted: Steps = ("park",)


class WebhookTable(Table):
    """The address of events, and the variable of the secret (`whsec_…`) that signs them."""

    url: str
    secret_env: str = "PENSTOCK_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ValueError("it must be an address that begins with https:// or http://")
        return url


class PrivacyTable(Table):
    """Without stored content no request, reply or quoted value is kept."""

    store_content: bool = True


class DeadLettersTable(Table):
    """How long dead letters are listed; without a number, until they are discarded."""

    retention_days: int | None = Field(default=None, ge=1, le=36_500)


_SMALL: Chain = ("gpt-4.1-mini", "gpt-5-mini")
_LARGE: Chain = ("gpt-4.1", "gpt-5")


def _default_models() -> dict[str, ModelTable]:
    table = ModelTable(requests_per_minute=30_000, tokens_per_minute=20_000_000)
    return dict.fromkeys((*_SMALL, *_LARGE), table)


def _default_lanes() -> dict[LaneName, LaneTable]:
    return {
        "critical": LaneTable(share=1.0),
        "high": LaneTable(share=0.5),
        "normal": LaneTable(share=0.25),
        "low": LaneTable(share=0.1),
    }


class Catalogue(Table):
    """The whole file."""

    providers: dict[str, ProviderTable] = Field(default_factory=lambda: {PROVIDER_DEFAULT: ProviderTable()})
    models: dict[str, ModelTable] = Field(default_factory=_default_models)
    aliases: dict[str, Chain] = Field(default_factory=lambda: {"small": _SMALL[:1], "large": _LARGE[:1]})
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


def load_catalogue(path: Path) -> Catalogue:
    """Read the file, or return the default without one. Raises CatalogueError."""
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
    details = dict(part)  # type: ignore[call-overload]  # a TypedDict of pydantic's
    steps = [str(step) for step in details["loc"]]
    line = line_of(text, details["loc"])
    place = f"{path}:{line}" if line else str(path)
    message = details["msg"].removeprefix("Value error, ")
    return f"{place}: {'.'.join(steps)}: {message}".replace(": :", ":")
