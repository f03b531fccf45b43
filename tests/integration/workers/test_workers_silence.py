"""Processes whose loops stand still: each kind is ended by a signal, and only the job that was worked on counts it.

Real processes of the product on a Redis and a Postgres; they hang on a log that nobody reads, or in a test's own bug.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from bench.store.sample_jobs import new_job
from config.marks import FOLDER
from config.settings import Settings
from schemas.contract import OutputContract
from schemas.ids import JobId
from schemas.job import NewJob
from stack.home import free_port
from storage.database.engine import open_engine
from storage.jobs.writes import JobTable
from tasks.release import release
from tests.integration.conftest import RedisNumber
from tests.support.full_pipe import full_pipe
from tests.support.own_process import CHECKOUT, CeleryWorker, OwnProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.worker_process import until

WATCHDOG_SECONDS, LEASE_SECONDS, HEARTBEAT_SECONDS = 6, 15, 2
ENDED_WITHIN_SECONDS = 60.0
NEIGHBOURS = 5
HANGING_NAME = "never_judged"
"""As `tests.support.hanging_app` has it, which only a worker can import."""
CONFIG = """
[models."gpt-4.1-mini"]
requests_per_minute = 600000
price = {input = 1.0, output = 2.0}
[aliases]
small = ["gpt-4.1-mini"]
"""
STORIES = """
SELECT j.id, j.state, j.deaths,
    array_agg(COALESCE(a.outcome, a.state) ORDER BY a.opened_at) FILTER (WHERE a.id IS NOT NULL) AS outcomes
FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id GROUP BY j.id
"""


@pytest.fixture
def env(redis_url: str, fresh_database_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    config, own_redis_url = tmp_path / "penstock.toml", RedisNumber.WORKERS.of(redis_url)
    config.write_text(CONFIG)
    release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(fresh_database_url), config=config))
    with SimulatorProcess.start(requests_per_minute=0, tokens_per_minute=0) as provider:
        yield {
            "PENSTOCK_REDIS_URL": own_redis_url,
            "PENSTOCK_DATABASE_URL": fresh_database_url,
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_HOME": str(tmp_path / "home"),
            "PENSTOCK_WATCHDOG_SECONDS": str(WATCHDOG_SECONDS),
            "PENSTOCK_LEASE_SECONDS": str(LEASE_SECONDS),
            "PENSTOCK_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": provider.base_url,
        }


def stories(env: Mapping[str, str]) -> dict[JobId, dict[str, Any]]:
    with psycopg.connect(env["PENSTOCK_DATABASE_URL"], row_factory=dict_row) as connection:
        return {row["id"]: row for row in connection.execute(STORIES).fetchall()}


def job(text: str, contract: OutputContract | None = None) -> NewJob:
    return new_job(body={"model": "small", "messages": [{"role": "user", "content": text}]}, contract=contract)


async def insert(env: Mapping[str, str], *jobs: NewJob) -> None:
    engine = open_engine(env["PENSTOCK_DATABASE_URL"], application="tests")
    await JobTable(engine, holder="tests", lease_seconds=1).insert(list(jobs))
    await engine.dispose()


def test_only_the_job_in_which_a_worker_hung_counts_its_death(env: dict[str, str]) -> None:
    neighbours = [job(f"[[scenario:hang*1]] turbine {number}") for number in range(NEIGHBOURS)]
    culprit = job("turbine", OutputContract(schema={"type": "object"}, name=HANGING_NAME))
    with OwnProcess("workers.upkeep", env) as upkeep:
        with CeleryWorker(env, app="tests.support.hanging_app") as hung:
            asyncio.run(insert(env, *neighbours))
            in_flight = [neighbour.id for neighbour in neighbours]
            until(lambda: all(stories(env)[id_]["outcomes"] == ["opened"] for id_ in in_flight), "all are called", 60)
            asyncio.run(insert(env, culprit))

            assert hung.wait(ENDED_WITHIN_SECONDS) == -signal.SIGALRM
            assert "in judge" in hung.said()

        with CeleryWorker(env):
            until(lambda: all(story["state"] == "completed" for story in stories(env).values()), "all complete", 90)

        said = upkeep.said()
        print(said)  # noqa: T201 - shown by pytest with a failure

    found = stories(env)
    assert found[culprit.id]["deaths"] == 1
    assert [found[id_]["deaths"] for id_ in in_flight] == [0] * NEIGHBOURS
    assert all(found[id_]["outcomes"] == ["worker_lost", "valid"] for id_ in in_flight)
    assert "process_died" in said
    assert culprit.id in said


LINES = 100
"""More than the page that is left in the pipe for what is said before the loop runs."""

LANE = "completions.critical"


@pytest.mark.parametrize(
    "words",
    [
        ("api",),
        ("workers.upkeep",),
        ("celery", "-A", "workers.app", "worker", "-Q", LANE, "--without-gossip", "--without-mingle"),
    ],
    ids=lambda words: words[0],
)
def test_a_process_that_hangs_on_its_own_log_is_ended(
    env: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    marks = tmp_path / "home" / FOLDER
    marks.mkdir(parents=True)
    for number in range(LINES):  # so that its loop has something to say
        (marks / f"{number}.mark").write_bytes(b"\0" * 512 + b"\4\0dead")

    with full_pipe(room_bytes=4_096) as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=CHECKOUT,
            env=os.environ | env | {"PENSTOCK_PORT": str(free_port())},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            assert process.wait(ENDED_WITHIN_SECONDS) == -signal.SIGALRM
        finally:
            process.kill()
