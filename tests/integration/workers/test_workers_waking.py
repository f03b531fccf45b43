"""Twenty thousand parked jobs, and upkeep processes killed while they wake them: each is woken exactly once."""

import time
from collections import Counter

import psycopg
import pytest

from tests.support.own_process import OwnProcess

PARKED = 20_000
MOST_SECONDS = 90.0
KILL_AT = (1_000, 5_000, 9_000, 13_000, 17_000)
"""How many are awake when the next upkeep process is killed."""

PARK = """
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, wake_at, wait_reason, expires_at, max_tries,
    max_reprompts, request_digest)
SELECT 'job_' || md5(n::text), 'default', 'low', 'gpt-4.1-mini', '/v1/chat/completions', 'waiting',
    now() + n * interval '0.1 ms', 'tokens_per_minute', now() + interval '1 day', 5, 2, ''
FROM generate_series(1, %s) n
"""


@pytest.mark.parametrize("candidates", [2])
def test_each_parked_job_is_woken_exactly_once_whoever_is_killed(
    redis_url: str, fresh_database_url: str, candidates: int
) -> None:
    env = {"PENSTOCK_REDIS_URL": redis_url, "PENSTOCK_DATABASE_URL": fresh_database_url}
    with psycopg.connect(fresh_database_url, autocommit=True) as database:
        database.execute(PARK, [PARKED])
        running = [OwnProcess("workers.upkeep", env) for _ in range(candidates)]
        try:
            for awake in KILL_AT:
                _until_awake(database, awake, running)
                running.pop(0).kill()
                running.append(OwnProcess("workers.upkeep", env))
            _until_awake(database, PARKED, running)
        finally:
            for process in running:
                process.kill()
        found = database.execute("SELECT generation, state FROM jobs").fetchall()

    assert Counter(found) == {(1, "queued"): PARKED}


def _until_awake(database: psycopg.Connection, count: int, running: list[OwnProcess]) -> None:
    give_up_at = time.monotonic() + MOST_SECONDS
    while time.monotonic() < give_up_at:
        [awake] = database.execute("SELECT count(*) FROM jobs WHERE state <> 'waiting'").fetchone() or (0,)
        if awake >= count:
            return
        time.sleep(0.02)
    raise AssertionError("\n".join(process.said() for process in running))
