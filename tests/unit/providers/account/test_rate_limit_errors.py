"""What the sentence of a 429 says: the limit, the figures, and nothing where it says nothing."""

from datetime import UTC, datetime

import pytest

from providers.account.rate_limit_errors import figures_of, limit_of
from schemas.admission import LimitFigures, WaitReason

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PER_MINUTE = (
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 100000, Used 99918, "
    "Requested 2094. Please try again in 14h29m11.04s. Visit https://example.invalid to learn more."
)


def test_the_four_figures_are_read() -> None:
    assert figures_of(PER_MINUTE, NOW) == LimitFigures(limit=100_000, used=99_918, requested=2_094, wait_ms=52_151_040)


def test_thousands_may_be_set_apart() -> None:
    said = "Limit: 1,000, Used: 998, Requested: 5. Please try again in 6ms."

    assert figures_of(said, NOW) == LimitFigures(limit=1_000, used=998, requested=5, wait_ms=6)


@pytest.mark.parametrize(
    "said", ["", "Too many requests.", "Limit: 3 / min. Please try again in 20s.", "Limit 5, Used 5"]
)
def test_what_is_not_said_is_unknown(said: str) -> None:
    assert figures_of(said, NOW) is None


@pytest.mark.parametrize(
    ("said", "type_", "limit"),
    [
        (PER_MINUTE, "requests", WaitReason.TOKENS),
        ("... on requests per day (RPD): Limit 200", None, WaitReason.REQUESTS_PER_DAY),
        ("Slow.", "tokens", WaitReason.TOKENS),
        ("Slow.", "requests", WaitReason.REQUESTS),
        ("Slow.", "rate_limit_error", None),
        ("Slow.", 7, None),
    ],
)
def test_the_limit_is_the_named_one_else_that_of_the_type(said: str, type_: object, limit: WaitReason | None) -> None:
    assert limit_of(said, type_) is limit
