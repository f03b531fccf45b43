"""Money in integer nano-dollars.

0.05 USD per million tokens is exactly 50 nano-dollars per token. Invariant: no float ever holds money. A price is
nano-dollars per million tokens; a cost is rounded up once, per call.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import NewType

from config.amounts import SMALLEST_USD

NanoUsd = NewType("NanoUsd", int)

NANO_PER_USD = 1_000_000_000
TOKENS_PER_PRICE_UNIT = 1_000_000
LARGEST_READ_USD = 10**12
"""Far above any amount, and a few digits beyond 64 bits of nano-dollars; each reader has its own lower limit."""
MAX_AMOUNT_CHARACTERS = 64
"""Nine decimal places and a million millions need 22."""
ZERO = NanoUsd(0)
UNKNOWN_SOURCE = "unknown"


def nano_from_usd(amount: Decimal | str | int) -> NanoUsd:
    """Convert dollars to nano-dollars, rounding up. Raises `decimal.InvalidOperation`."""
    return NanoUsd(int((Decimal(amount) * NANO_PER_USD).to_integral_value(ROUND_CEILING)))


def read_usd(value: object) -> Decimal | None:
    """Read an amount of dollars from outside, as text or a number; None if it is not one.

    None also stands for amounts that no ledger can hold: below a nano-dollar but not zero, infinite, or absurdly long.
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
    """Format dollars as plain decimal text with nine places, for people and for JSON."""
    return f"{Decimal(amount) / NANO_PER_USD:.9f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them.

    Input includes cached input and what was written to the provider's cache (None if unknown); output includes
    reasoning.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int | None = None
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output, which is what a tokens-per-minute limit counts."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """The price of a million tokens in nano-dollars, and its source; stored with each attempt.

    `cache_write_nano_usd` is for input that is written to the provider's cache; None if it costs as other input.
    """

    input_nano_usd: int
    cached_input_nano_usd: int
    output_nano_usd: int
    source: str
    cache_write_nano_usd: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether the model's price is known; a job that counts against a budget may not run without."""
        return self.source != UNKNOWN_SOURCE

    def cost(self, usage: Usage) -> NanoUsd:
        """Return the cost of a call in nano-dollars, rounded up to a whole one.

        If the tokens written to the cache are unknown, all input that was not read from it counts as written.
        """
        fresh, written = usage.input_tokens - usage.cached_input_tokens, usage.cache_write_tokens
        write_price = self.input_nano_usd if self.cache_write_nano_usd is None else self.cache_write_nano_usd
        if written is None:
            written = fresh if write_price > self.input_nano_usd else 0
        written = min(written, fresh)
        total = (
            (fresh - written) * self.input_nano_usd
            + written * write_price
            + usage.cached_input_tokens * self.cached_input_nano_usd
            + usage.output_tokens * self.output_nano_usd
        )
        return NanoUsd(-(-total // TOKENS_PER_PRICE_UNIT))


UNKNOWN_PRICE = Price(input_nano_usd=0, cached_input_nano_usd=0, output_nano_usd=0, source=UNKNOWN_SOURCE)
"""Stands for an unknown price: refused to budgeted jobs, and found again by its source for re-pricing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """The worst case of one call, before it is made.

    Admission reserves it, and the actual cost replaces it at settle. Money is reserved for the worst case, so that no
    budget can be exceeded. The bucket is asked for the likely prompt, because worst cases would leave it half empty;
    tokens used beyond that are taken from it at settle.
    """

    input_tokens: int
    output_tokens: int
    cost_nano_usd: NanoUsd
    likely_input_tokens: int | None = None

    @property
    def permits(self) -> int:
        """Permits to ask the token bucket for; never more than the worst case."""
        likely = self.input_tokens if self.likely_input_tokens is None else self.likely_input_tokens
        return min(likely, self.input_tokens) + self.output_tokens
