"""`penstock.toml`: providers, models, aliases, lanes and budgets, as frozen models. Knows names, not meanings.

Unknown keys and wrong types refuse to start and name the table, the key and the line.
"""

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

PROVIDER_DEFAULT = "openai"
OPENAI_BASE_URL = "https://api.openai.com/v1"

Chain: TypeAlias = Annotated[tuple[str, ...], Strict(strict=False)]
LaneName: TypeAlias = Literal["critical", "high", "normal", "low"]


class CatalogueError(Exception):
    """`penstock.toml` is not valid; the message names the place and says what to change."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PriceTable(_Table):
    """USD per million tokens."""

    input: Decimal = Field(ge=0, strict=False)
    cached_input: Decimal | None = Field(default=None, ge=0, strict=False)
    output: Decimal = Field(ge=0, strict=False)


class ProviderTable(_Table):
    """One account at a provider."""

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    bills_errors: bool = False
    lookup: bool = False


class ModelTable(_Table):
    """Limits and defaults of one model; a limit that is not named is not enforced until headers reveal it."""

    provider: str = PROVIDER_DEFAULT
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    requests_per_day: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)
    max_in_flight: int | None = Field(default=None, ge=1)
    default_max_output_tokens: int = Field(default=1_024, ge=1)
    price: PriceTable | None = None


class LaneTable(_Table):
    """What a lane may have of a quota while others want it, and what happens when its money is gone."""

    share: float = Field(ge=0, le=1)
    max_wait_seconds: float | None = Field(default=None, gt=0)
    on_exhausted: Literal["park", "reject"] = "park"


class BudgetTable(_Table):
    """A limit of spending for a scope in a window of its timezone."""

    scope: str = "global"
    window: Literal["hour", "day", "month"] = "day"
    limit_usd: Decimal = Field(gt=0, strict=False)
    timezone: str = "UTC"


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

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, model in self.models.items():
            if model.provider not in self.providers:
                raise ValueError(f'[models."{name}"] names the provider {model.provider!r}, which has no table')
        for alias, chain in self.aliases.items():
            missing = [name for name in chain if name not in self.models]
            if missing or not chain:
                raise ValueError(f"[aliases] {alias} must name configured models; unknown: {missing}")
        return self


def load_catalogue(path: Path) -> Catalogue:
    """Read the file; the built-in default where there is none. Raises CatalogueError."""
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
    line = _line_of(text, steps[-1]) if steps else None
    place = f"{path}:{line}" if line else str(path)
    return f"{place}: {'.'.join(steps)}: {found['msg']}".replace(": :", ":")


def _line_of(text: str, key: str) -> int | None:
    pattern = re.compile(rf'^\s*(\[+[^\]]*)?"?{re.escape(key)}"?\s*[\]=.]')
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), None)
