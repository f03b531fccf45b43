"""A replay of 10,000 dead letters whose upkeep is killed three times, and its command and its door with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from config.settings import Settings
from stack.children import wait_until
from tasks.release import release
from tests.support.own_process import CHECKOUT, OwnProcess, WebProcess

LETTERS = 10_000
PER_SECOND = 1_500
"""Slow enough to be killed on the way, three times."""

WAIT_SECONDS = 60.0
OWN_DATABASE = "11"
ADMIN = "pk_admin"

FILL = f"""
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest,
    dead_reason, message, rested_at)
SELECT 'job_' || n, 'default', 'low', 'small', '/v1/chat/completions', 'dead', now(), 5, 2, '', 'invalid_output',
    'price: ''12'' is not of type ''number''', now()
FROM generate_series(1, {LETTERS}) n;
INSERT INTO job_bodies SELECT id, '{{"model": "small", "messages": [{{"role": "user", "content": "a"}}]}}' FROM jobs
"""  # noqa: S608 - constants


@pytest.fixture
def env(redis_url: str, fresh_database_url: str, tmp_path: Path) -> dict[str, str]:
    own_redis_url = f"{redis_url.rpartition('/')[0]}/{OWN_DATABASE}"
    config = tmp_path / "penstock.toml"
    release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(fresh_database_url), config=config))
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute(FILL)
    return {
        "PENSTOCK_REDIS_URL": own_redis_url,
        "PENSTOCK_DATABASE_URL": fresh_database_url,
        "PENSTOCK_CONFIG": str(config),
        "PENSTOCK_ADMIN_KEY": ADMIN,
        "OPENAI_API_KEY": "sk-simulated",
    }


def one(url: str, query: str) -> Any:  # noqa: ANN401 - whatever is asked
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def until(condition: Callable[[], bool], what: str) -> None:
    assert wait_until(condition, seconds=WAIT_SECONDS), what


def kill(process: OwnProcess) -> None:
    process._process.send_signal(signal.SIGKILL)  # noqa: SLF001 - the test's own process
    process.wait()


def command(api: WebProcess, *more: str) -> "subprocess.Popen[bytes]":
    words = ["dead-letters", "replay", "--all", "--message", "b", "--model", "large", "--key", "once", *more]
    own: Mapping[str, str] = os.environ | {"PENSTOCK_API_KEY": ADMIN, "PENSTOCK_URL": api.url}
    return subprocess.Popen([sys.executable, "-m", "cli", *words], cwd=CHECKOUT, env=own)


def test_each_of_ten_thousand_is_replayed_once_though_everything_is_killed(
    env: dict[str, str], fresh_database_url: str
) -> None:
    url = fresh_database_url
    done = "SELECT COALESCE(sum(replayed), 0) FROM replays"
    rate = ("--per-second", str(PER_SECOND))

    with WebProcess(env) as api:
        api.until("/healthz", 200)
        asking = command(api, *rate)
        until(lambda: one(url, "SELECT count(*) FROM replays") == 1, "the command makes a replay")
        for step in (1, 2_500, 5_000):
            with OwnProcess("workers.upkeep", env) as upkeep:
                until(lambda least=step: one(url, done) >= least, upkeep.said())  # type: ignore[misc]  # bound now
                kill(upkeep)
            if asking.poll() is None:
                asking.kill()
                asking.wait()
        killed_at = one(url, done)
        kill(api)
    with WebProcess(env) as api, OwnProcess("workers.upkeep", env) as upkeep:
        api.until("/healthz", 200)
        assert command(api, *rate).wait(WAIT_SECONDS) == 0, upkeep.said()

    assert 5_000 <= killed_at < LETTERS
    assert one(url, "SELECT count(*) FROM replays") == 1
    assert one(url, "SELECT state FROM replays") == "completed"
    assert one(url, done) == LETTERS
    assert one(url, "SELECT count(*) FROM replay_jobs WHERE refusal IS NULL") == LETTERS
    replayed = "SELECT count(*) FROM jobs WHERE state <> 'dead' AND generation = 1 AND model = 'large'"
    assert one(url, replayed) == LETTERS
    once = "SELECT count(*) FROM job_bodies WHERE json_array_length(body->'messages') = 2 AND body->>'model' = 'large'"
    assert one(url, once) == LETTERS
