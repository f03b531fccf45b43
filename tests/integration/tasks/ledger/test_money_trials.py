"""P2 under fire: drivers killed at random and a Redis that is wiped, against a bill that nobody can change."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.home import Home
from stack.valkey import Valkey
from tests.chaos.trial import Findings, Limits, a_trial

LONG = pytest.mark.slow
MOST = 20_000


@pytest.fixture
def own_redis_url(tmp_path: Path) -> Iterator[str]:
    """One that may be wiped."""
    home = Home(tmp_path / "home")
    with home.locked(), Valkey(home).running() as valkey:
        yield valkey.url


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=LONG)])
def test_no_kill_at_any_moment_passes_a_limit_or_loses_a_nano_dollar(
    own_redis_url: str, fresh_database_url: str, seconds: int
) -> None:
    limits = Limits(user=400_000, total=int(400_000 * seconds / 2 * 0.9))
    with a_trial(
        own_redis_url, fresh_database_url, limits, seconds=seconds, costs=(3_000, MOST), user_seconds=2
    ) as trial:
        trial.run(kill_every_seconds=0.25)
        found = trial.findings()

    print(found.table())  # noqa: T201 - the figures
    assert_all_is_accounted_for(found, MOST)
    assert found.kills >= seconds * 2
    assert found.samples.number >= seconds * 100  # 1,000 and more a second where nobody else is at work
    assert found.posted_after_suspense > 0


@pytest.mark.parametrize("seconds", [6, pytest.param(45, marks=LONG)])
def test_a_redis_that_is_wiped_between_grant_and_insert_overspends_nothing(
    own_redis_url: str, fresh_database_url: str, seconds: int
) -> None:
    limits = Limits(user=200_000, total=10**9)
    with a_trial(
        own_redis_url,
        fresh_database_url,
        limits,
        seconds=seconds,
        costs=(8_000, MOST),
        user_seconds=3,
        pause_seconds=0.6,
        rest_seconds=0.05,
        keep_every_seconds=0.02,
    ) as trial:
        trial.run(wipe_every_seconds=0.3)
        found = trial.findings()

    print(found.table())  # noqa: T201 - the figures
    assert_all_is_accounted_for(found, MOST)
    assert found.wipes >= seconds


def assert_all_is_accounted_for(found: Findings, most: int) -> None:
    assert -most < found.samples.worst_nano_usd <= 0  # and some limit had no room for the largest request
    assert (found.overspent, found.differs) == ({}, {})
    assert (found.reserved_nano_usd, found.unknown, found.unopened) == (0, 0, 0)
    assert found.ledger_nano_usd == found.bill_nano_usd == found.settled_nano_usd
