"""Money in integer nano-dollars.

Invariant: no float holds money. A cost is rounded up once, per call.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import NewType

from config.amounts import SMALLEST_USD

NanoUsd = NewType("NanoUsd", int)

NANO_PER_USD = 1_000_000_000
TOKENS_PER_PRICE_UNIT = 1_000_000
LARGEST_READ_USD = 10**12
"""Far above any amount; readers have their own lower limits."""
MAX_AMOUNT_CHARACTERS = 64
"""Nine decimal places and 10^12 need 22."""
ZERO = NanoUsd(0)
UNKNOWN_SOURCE = "unknown"


def nano_from_usd(amount: Decimal | str | int) -> NanoUsd:
    """Convert dollars to nano-dollars, rounding up. Raises `decimal.InvalidOperation`."""
    return NanoUsd(int((Decimal(amount) * NANO_PER_USD).to_integral_value(ROUND_CEILING)))


def read_usd(value: object) -> Decimal | None:
    """Read dollars from outside; None if no ledger can hold the amount.

    That is: below a nano-dollar but not zero, infinite, or absurdly long.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, int) and abs(value) > LARGEST_READ_USD:
        return None
    text = str(value)
    if len(text) > MAX_AMOUNT_CHARACTERS or not text.isascii() or "_" in text:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    size = amount.copy_abs()  # abs() would round, which overflows
    if not amount.is_finite() or size > LARGEST_READ_USD or (amount and size < SMALLEST_USD):
        return None
    return amount


def usd_text(amount: NanoUsd) -> str:
    """Format dollars as decimal text with nine places."""
    return f"{Decimal(amount) / NANO_PER_USD:.9f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them.

    Input includes cached input and cache writes (None if unknown); output includes reasoning.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int | None = None
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output, as counted by a tokens-per-minute limit."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Nano-dollars per million tokens, and their source.

    `cache_write_nano_usd` is for input written to the provider's cache; None: as other input.
    """

    input_nano_usd: int
    cached_input_nano_usd: int
    output_nano_usd: int
    source: str
    cache_write_nano_usd: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether the price is known; budgeted jobs need one."""
        return self.source != UNKNOWN_SOURCE

    @property
    def written_nano_usd(self) -> int:
        """Price of input that is written to the provider's cache."""
        return self.input_nano_usd if self.cache_write_nano_usd is None else self.cache_write_nano_usd

    def cost(self, usage: Usage) -> NanoUsd:
        """Return the cost of a call, rounded up.

        If the written tokens are unknown, all input not read from the cache counts as written.
        """
        fresh, written = usage.input_tokens - usage.cached_input_tokens, usage.cache_write_tokens
        if written is None:
            written = fresh if self.written_nano_usd > self.input_nano_usd else 0
        written = min(written, fresh)
        total = (
            (fresh - written) * self.input_nano_usd
            + written * self.written_nano_usd
            + usage.cached_input_tokens * self.cached_input_nano_usd
            + usage.output_tokens * self.output_nano_usd
        )
        return NanoUsd(-(-total // TOKENS_PER_PRICE_UNIT))


UNKNOWN_PRICE = Price(input_nano_usd=0, cached_input_nano_usd=0, output_nano_usd=0, source=UNKNOWN_SOURCE)
"""Refused to budgeted jobs, and found by its source for re-pricing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """The worst case of one call, reserved before it and replaced by the actual cost at settle.

    The bucket is asked for the likely prompt, because worst cases would leave it half empty.
    """

    input_tokens: int
    output_tokens: int
    cost_nano_usd: NanoUsd
    likely_input_tokens: int | None = None

    @property
    def permits(self) -> int:
        """Permits to ask for; at most the worst case."""
        likely = self.input_tokens if self.likely_input_tokens is None else self.likely_input_tokens
        return min(likely, self.input_tokens) + self.output_tokens
