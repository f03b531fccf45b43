"""Settings of a simulated provider: models and prices, limits, latency, shares of faults.

Prices are written in USD per million tokens and kept as whole nano-dollars per million tokens, so a bill is exact: the
cost of a call is ceil(sum(tokens x nano_per_million) / 1,000,000). The file of `--config` is TOML:

    latency = "lognormal:300,0.4"
    [scenarios]        throttle = 0.05
    [models."my-model"] price = { input = "0.4", cached_input = "0.1", output = "1.6" }, requests_per_minute = 600
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from statistics import NormalDist

_NANO = Decimal(10**9)
_MILLION = 1_000_000


class BadSetting(ValueError):  # noqa: N818 - reads as what happened
    """A setting of the simulator is wrong."""


class Charge(StrEnum):
    """The tokens that a call takes from the token bucket at admission."""

    SUM = "sum"  # prompt estimate + max_completion_tokens
    MAX = "max"  # the larger of the two, as OpenAI's guide words it
    PROMPT = "prompt"  # the prompt estimate alone


class Remaining(StrEnum):
    """The base of x-ratelimit-remaining-*."""

    LIMIT = "limit"  # the limit of a minute less what has not refilled yet, as recorded OpenAI headers show
    LEVEL = "level"  # what the bucket would admit now


@dataclass(frozen=True, kw_only=True)
class Price:
    """Nano-dollars per million tokens."""

    input_nano: int
    cached_input_nano: int
    output_nano: int

    @classmethod
    def usd(cls, input_usd: object, cached_input_usd: object, output_usd: object) -> "Price":
        """Build from USD per million tokens, as decimal text or numbers."""
        return cls(
            input_nano=_nano(input_usd), cached_input_nano=_nano(cached_input_usd), output_nano=_nano(output_usd)
        )

    def cost_nano_usd(self, *, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> int:
        """Return the cost of one call, rounded up to a whole nano-dollar. Cached tokens are part of input_tokens."""
        total = (
            (input_tokens - cached_input_tokens) * self.input_nano
            + cached_input_tokens * self.cached_input_nano
            + output_tokens * self.output_nano
        )
        return -(-total // _MILLION)


def _nano(usd: object) -> int:
    try:
        nano = Decimal(str(usd)) * _NANO
    except InvalidOperation:
        raise BadSetting(f"a price must be a number of USD per million tokens, not {usd!r}") from None
    if nano < 0 or nano != nano.to_integral_value():
        raise BadSetting(f"a price must be a whole number of nano-dollars per million tokens, not {usd!r} USD")
    return int(nano)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model on offer. A limit of None uses the provider's general one; 0 is no limit."""

    price: Price
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


DEFAULT_MODELS: Mapping[str, Model] = {
    "gpt-4.1": Model(price=Price.usd("2", "0.5", "8")),
    "gpt-4.1-mini": Model(price=Price.usd("0.4", "0.1", "1.6")),
    "gpt-5": Model(price=Price.usd("1.25", "0.125", "10")),
    "gpt-5-mini": Model(price=Price.usd("0.25", "0.025", "2")),
    "text-embedding-3-small": Model(price=Price.usd("0.02", "0", "0")),
}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A distribution of the seconds between admission and the end of the answer."""

    kind: str
    first: float
    second: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Latency":
        """Read `fixed:MS`, `uniform:A-B` or `lognormal:MEDIAN,SIGMA`, all in milliseconds."""
        kind, _, rest = text.partition(":")
        try:
            match kind:
                case "fixed":
                    return cls(kind=kind, first=_at_least_zero(rest))
                case "uniform":
                    low, high = (_at_least_zero(part) for part in rest.split("-"))
                    return cls(kind=kind, first=min(low, high), second=max(low, high))
                case "lognormal":
                    median, sigma = (_at_least_zero(part) for part in rest.split(","))
                    return cls(kind=kind, first=median, second=sigma)
        except ValueError:
            pass
        raise BadSetting(f"latency must be fixed:MS, uniform:A-B or lognormal:MEDIAN,SIGMA, not {text!r}")

    def seconds(self, chance: float) -> float:
        """Return the latency for a number in [0, 1): the inverse of the distribution."""
        match self.kind:
            case "uniform":
                ms = self.first + chance * (self.second - self.first)
            case "lognormal":
                deviation = NormalDist().inv_cdf(min(max(chance, 1e-9), 1 - 1e-9))
                ms = self.first * 2.718281828459045 ** (self.second * deviation)
            case _:
                ms = self.first
        return ms / 1000


def _at_least_zero(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of the provider."""

    seed: int = 1
    keys: frozenset[str] = frozenset()  # empty: any key is accepted
    models: Mapping[str, Model] = field(default_factory=lambda: dict(DEFAULT_MODELS))
    requests_per_minute: int = 30_000  # 0: no limit. With 300 ms a demo of 1,000 jobs is a matter of a minute
    tokens_per_minute: int = 20_000_000
    burst_seconds: float = 1.0  # OpenAI may enforce 60,000 a minute as 1,000 a second
    charge: Charge = Charge.SUM
    refund: bool = False  # whether tokens charged and not used are returned after the answer
    refusals_count: bool = True  # OpenAI: "unsuccessful requests contribute to your per-minute limit"
    remaining: Remaining = Remaining.LIMIT
    latency: Latency = field(default_factory=lambda: Latency(kind="lognormal", first=300, second=0.4))
    throttle_retry_after_seconds: int = 1
    scenarios: Mapping[str, float] = field(default_factory=dict)
    prompt_cache: bool = True  # bill a long prefix that was seen before at the cached price
    instant: bool = False
    instant_answer: str = ""  # text of the prebuilt answer; if set, structured requests get it too


def from_file(path: Path, start: Settings) -> Settings:
    """Return the settings, overridden by a TOML file. Unknown keys are refused by name."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"{path}: {error}") from error
    changes: dict[str, object] = {}
    for name, value in found.items():
        changes[name] = _setting(name, value, start)
    return replace(start, **changes)  # type: ignore[arg-type]  # _setting gives each name its own type


def _setting(name: str, value: object, start: Settings) -> object:
    match name, value:
        case "latency", str():
            return Latency.parse(value)
        case "charge", ("sum" | "max" | "prompt"):
            return Charge(value)
        case "remaining", ("limit" | "level"):
            return Remaining(value)
        case "keys", list():
            return frozenset(str(key) for key in value)
        case "scenarios", dict():
            return {str(scenario): float(share) for scenario, share in value.items()}
        case "models", dict():
            return dict(start.models) | {str(model): _model(str(model), entry) for model, entry in value.items()}
        case (("refund" | "refusals_count" | "prompt_cache" | "instant"), bool()) | ("instant_answer", str()):
            return value
        case (
            ("seed" | "requests_per_minute" | "tokens_per_minute" | "throttle_retry_after_seconds"),
            int(),
        ) if not isinstance(value, bool):
            return value
        case "burst_seconds", int() | float():
            return float(value)
    raise BadSetting(f"{name} = {value!r} is no setting of the simulator")


def _model(name: str, entry: object) -> Model:
    match entry:
        case {"price": {"input": input_usd, "cached_input": cached_usd, "output": output_usd}, **others}:
            limits = {str(key): limit for key, limit in others.items() if isinstance(limit, int)}
            if len(limits) == len(others) and limits.keys() <= {"requests_per_minute", "tokens_per_minute"}:
                return Model(
                    price=Price.usd(input_usd, cached_usd, output_usd),
                    requests_per_minute=limits.get("requests_per_minute"),
                    tokens_per_minute=limits.get("tokens_per_minute"),
                )
    raise BadSetting(f'models."{name}" needs price = {{input, cached_input, output}} and at most the two limits')
