"""Suspects in processes of their own: the real upkeep starts the real `python -m workers.upkeep.isolated_job` for each.

Only a death there, by itself, condemns a job. Whoever asks such a process to end, or upkeep beside it, condemns none.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from bench.store.sample_jobs import new_job
from config.settings import Settings
from schemas.ids import JobId
from storage.database.engine import open_engine
from storage.jobs.writes import JobTable
from tasks.release import release
from tests.integration.conftest import RedisNumber
from tests.support.own_process import OwnProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.worker_process import until
from workers.upkeep.isolated_job import started

CONFIG = """
[models."gpt-4.1-mini"]
requests_per_minute = 600000
price = {input = 1.0, output = 2.0}
[aliases]
small = ["gpt-4.1-mini"]
"""
LEASE_SECONDS = 60
"""Longer than any test here: nothing comes back by a rescue."""

QUICK_SECONDS = 40.0
SUSPECTED = "UPDATE jobs SET deaths = 2, state = 'waiting', wait_reason = 'suspect', wake_at = expires_at"
STORY = """
SELECT j.state, j.dead_reason, j.message, j.deaths,
    array_agg(COALESCE(a.outcome, a.state) ORDER BY a.opened_at) FILTER (WHERE a.id IS NOT NULL) AS outcomes
FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id WHERE j.id = %s GROUP BY j.id
"""


@dataclass(frozen=True, kw_only=True)
class Ward:
    """A database with suspects, a provider, and upkeep processes that are started and ended by the tests."""

    env: dict[str, str]
    provider: SimulatorProcess
    running: ExitStack

    def upkeep(self) -> OwnProcess:
        process = self.running.enter_context(OwnProcess("workers.upkeep", self.env))
        self.running.callback(lambda: print(process.said()))  # noqa: T201 - shown by pytest with a failure
        return process

    def suspect(self, text: str) -> JobId:
        """Store a job that was twice held by workers that died."""
        job = new_job(body={"model": "small", "messages": [{"role": "user", "content": text}]}, contract=None)
        asyncio.run(self._insert(job))
        with psycopg.connect(self.env["PENSTOCK_DATABASE_URL"], autocommit=True) as connection:
            connection.execute(f"{SUSPECTED} WHERE id = %s", [job.id])
        return job.id

    async def _insert(self, job: Any) -> None:  # noqa: ANN401 - a NewJob
        engine = open_engine(self.env["PENSTOCK_DATABASE_URL"], application="tests")
        await JobTable(engine, holder="tests", lease_seconds=1).insert([job])
        await engine.dispose()

    def story(self, job_id: JobId) -> dict[str, Any]:
        with psycopg.connect(self.env["PENSTOCK_DATABASE_URL"], row_factory=dict_row) as connection:
            found = connection.execute(STORY, [job_id]).fetchone()
        assert found is not None
        return found

    def in_mid_call(self, job_id: JobId) -> int:
        """Wait until the job is being called; the process that does it."""
        until(lambda: self.story(job_id)["outcomes"] == ["opened"], "it is in mid-call", QUICK_SECONDS)
        [pid] = pids_of(job_id)
        return pid


def pids_of(job_id: JobId) -> list[int]:
    """Processes that run this job alone."""
    listed = subprocess.run(["/bin/ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    words = [
        line.split() for line in listed.stdout.splitlines() if "workers.upkeep.isolated_job" in line and job_id in line
    ]
    return [int(pid) for pid, *_ in words]


@pytest.fixture
def ward(redis_url: str, fresh_database_url: str, tmp_path: Path) -> Iterator[Ward]:
    config = tmp_path / "penstock.toml"
    config.write_text(CONFIG)
    own_redis_url = RedisNumber.WORKERS.of(redis_url)
    release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(fresh_database_url), config=config))
    with SimulatorProcess.start(requests_per_minute=0, tokens_per_minute=0) as provider:
        env = {
            "PENSTOCK_REDIS_URL": own_redis_url,
            "PENSTOCK_DATABASE_URL": fresh_database_url,
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_LEASE_SECONDS": str(LEASE_SECONDS),
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": provider.base_url,
        }
        with ExitStack() as running:
            yield Ward(env=env, provider=provider, running=running)


def test_a_healthy_suspect_is_completed_in_a_process_of_its_own(ward: Ward) -> None:
    job_id = ward.suspect("turbine")

    upkeep = ward.upkeep()
    until(lambda: ward.story(job_id)["state"] == "completed", "it is completed", QUICK_SECONDS)
    until(lambda: "suspect_ran_alone" in upkeep.said(), "upkeep has seen its end")

    story = ward.story(job_id)
    assert (story["deaths"], story["outcomes"]) == (2, ["valid"])
    assert pids_of(job_id) == []


async def test_one_that_takes_too_long_is_killed_and_that_is_a_death(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ward.env.items():
        monkeypatch.setenv(name, value)
    job_id = JobId("job_that_nobody_knows")
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://127.0.0.1:1/0")

    assert await started(job_id, 0, 0.1, asyncio.Event()) == -signal.SIGKILL


def test_a_death_there_condemns_this_job_and_no_other(ward: Ward) -> None:
    poison, healthy = ward.suspect("[[scenario:hang]] gate"), ward.suspect("turbine")
    upkeep = ward.upkeep()
    pid = ward.in_mid_call(poison)

    os.kill(pid, signal.SIGKILL)

    until(lambda: ward.story(poison)["state"] == "dead", "it is condemned", QUICK_SECONDS)
    until(lambda: ward.story(healthy)["state"] == "completed", "the other is completed", QUICK_SECONDS)
    story = ward.story(poison)
    assert (story["dead_reason"], story["deaths"], story["outcomes"]) == ("poison", 3, ["worker_lost"])
    assert story["message"] == "The process that ran it alone died of signal 9."
    assert "job_quarantined" in upkeep.said()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_asked_to_end_hands_its_suspect_back(ward: Ward, asked: signal.Signals) -> None:
    job_id = ward.suspect("[[scenario:hang*1]] gate")
    ward.upkeep()
    pid = ward.in_mid_call(job_id)

    os.kill(pid, asked)

    until(lambda: ward.story(job_id)["state"] == "completed", "it ran alone once more", QUICK_SECONDS)
    story = ward.story(job_id)
    assert (story["deaths"], story["outcomes"]) == (2, ["handed_back", "valid"])


def test_an_upkeep_that_ends_hands_back_what_runs_alone_for_it(ward: Ward) -> None:
    job_id = ward.suspect("[[scenario:hang*1]] gate")
    first = ward.upkeep()
    ward.in_mid_call(job_id)

    assert first.stop() == 0

    story = ward.story(job_id)
    assert (story["state"], story["deaths"], story["outcomes"]) == ("waiting", 2, ["handed_back"])
    assert pids_of(job_id) == []
    ward.upkeep()
    until(lambda: ward.story(job_id)["state"] == "completed", "the next upkeep had it run", QUICK_SECONDS)
