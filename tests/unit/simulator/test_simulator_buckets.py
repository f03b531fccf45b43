import pytest

from simulator.buckets import Bucket, Quota, Reason, go_duration
from simulator.settings import Remaining


def quota(rpm: int = 6000, tpm: int = 60_000, *, refusals_count: bool = True, burst_seconds: float = 1.0) -> Quota:
    return Quota(
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        burst_seconds=burst_seconds,
        refusals_count=refusals_count,
        remaining=Remaining.LIMIT,
        now=0.0,
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.0087, "8ms"),
        (1, "1s"),
        (3.114, "3.114s"),
        (8.64, "8.64s"),
        (360, "6m0s"),
        (150, "2m30s"),
        (52151.04, "14h29m11.04s"),
    ],
)
def test_durations_print_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("limit", "taken", "remaining", "reset"),
    [(5_000, 1, "4999", "12ms"), (160_000, 24, "159976", "9ms"), (10_000, 519, "9481", "3.114s")],
)
def test_headers_add_up_as_recorded_ones_do(limit: int, taken: int, remaining: str, reset: str) -> None:
    bucket = Bucket(limit_per_minute=limit, depth=limit, now=0.0)

    bucket.take(taken, 0.0)

    headers = bucket.headers("tokens", Remaining.LIMIT, 0.0)
    assert headers["x-ratelimit-limit-tokens"] == str(limit)
    assert headers["x-ratelimit-remaining-tokens"] == remaining
    assert headers["x-ratelimit-reset-tokens"] == reset


def test_remaining_may_count_what_would_pass_now() -> None:
    bucket = Bucket(limit_per_minute=6000, depth=100, now=0.0)
    bucket.take(30, 0.0)

    assert bucket.headers("requests", Remaining.LEVEL, 0.0)["x-ratelimit-remaining-requests"] == "70"
    assert bucket.headers("requests", Remaining.LIMIT, 0.0)["x-ratelimit-remaining-requests"] == "5970"


def test_a_burst_of_one_second_passes_and_then_the_rate_rules() -> None:
    bucket = quota(rpm=6000, tpm=0)
    burst = sum(bucket.admit(1, 0.0) is None for _ in range(200))
    later = sum(bucket.admit(1, 0.5) is None for _ in range(200))

    assert (burst, later) == (100, 50)


def test_the_refusal_s_figures_give_away_the_true_rate() -> None:
    full = quota(rpm=0, tpm=60_000)
    assert full.admit(900, 0.0) is None

    refusal = full.admit(500, 0.0)

    assert refusal is not None
    assert refusal.reason is Reason.TOKENS
    per_unit = refusal.wait_seconds / (refusal.used + refusal.requested - refusal.limit)
    assert per_unit == pytest.approx(60 / 60_000)
    assert full.admit(500, refusal.wait_seconds) is None


def test_a_refused_call_takes_a_request_and_no_tokens() -> None:
    counting, free = quota(tpm=6_000), quota(tpm=6_000, refusals_count=False)
    for each in (counting, free):
        assert each.admit(100, 0.0) is None
        assert each.admit(100, 0.0) is not None

    assert counting.headers(0.0)["x-ratelimit-remaining-requests"] == "5998"
    assert free.headers(0.0)["x-ratelimit-remaining-requests"] == "5999"
    assert counting.headers(0.0)["x-ratelimit-remaining-tokens"] == "5900"


def test_who_keeps_resending_while_refused_gets_nowhere() -> None:
    bucket = quota(rpm=60, tpm=0)
    assert bucket.admit(1, 0.0) is None

    refusals = [bucket.admit(1, tenth / 10) for tenth in range(1, 50)]

    assert all(refusal is not None for refusal in refusals)


def test_a_call_above_the_limit_never_fits_and_one_above_the_burst_does() -> None:
    bucket = quota(rpm=0, tpm=60_000)

    too_large = bucket.admit(60_001, 0.0)

    assert too_large is not None
    assert too_large.reason is Reason.TOO_LARGE
    assert bucket.admit(30_000, 0.0) is None
    assert bucket.admit(1, 28.0) is not None
    assert bucket.admit(1, 29.1) is None


def test_tokens_given_back_fill_the_bucket_but_not_above_full() -> None:
    bucket = quota(rpm=0, tpm=60_000)
    assert bucket.admit(1000, 0.0) is None

    bucket.give_back(5000, 0.0)

    assert bucket.headers(0.0)["x-ratelimit-remaining-tokens"] == "60000"


def test_a_clock_that_steps_back_refills_nothing() -> None:
    bucket = Bucket(limit_per_minute=60, depth=1, now=10.0)
    bucket.take(1, 10.0)

    assert bucket.level(5.0) == 0
    assert bucket.level(10.5) == pytest.approx(0.5)
