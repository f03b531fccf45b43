"""Postgres refuses: it takes no more connections, or its disk is full. The real processes on a server of their own.

Doors say which of the two it is and nothing else of the server; workers hold what they have; nobody floods its log; and
when the condition ends everything goes on by itself, with each job paid for once.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from pydantic import SecretStr

from config.settings import Settings
from stack.home import Home
from stack.postgres import Postgres
from tasks.release import release
from tests.integration.conftest import RedisNumber
from tests.support.own_process import CeleryWorker, OwnProcess, WebProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.worker_process import until

pytestmark = pytest.mark.slow

ADMIN = "pk_admin"
CONFIG = """
[models."gpt-4.1-mini"]
requests_per_minute = 600000
price = {input = 1.0, output = 2.0}
[aliases]
small = ["gpt-4.1-mini"]
"""
JOBS = 40
CALL_MS = 5_000
"""Long enough for the condition to begin while all of them are in mid-call."""

LEASE_SECONDS, HEARTBEAT_SECONDS = 4, 1
RESUME_SECONDS = 40.0
MOST_LINES = 25
"""Of a process, from the begin of the condition until the leases would have run out: one for each thing that waits."""

LONG_BYTES = 50_000
"""Of noise, which no compression fits into what little room a page has left."""

FEW_CONNECTIONS = 40
TIGHT_BYTES = 48_000_000
"""For the tables; for a whole server four times as much."""

WHOLE_BYTES = 4 * TIGHT_BYTES
STORIES = """
SELECT j.id, j.state, j.deaths, count(a.id) AS attempts FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id
GROUP BY j.id
"""
EVICT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND application_name LIKE 'penstock%'
"""
OPENED = "SELECT count(*) FROM attempts WHERE state = 'opened'"
HELD = "SELECT count(*) FROM jobs WHERE state = 'running'"
LIVING = f"{HELD} AND lease_until >= clock_timestamp()"


class NarrowPostgres(Postgres):
    """A server that takes few connections."""

    def _settings(self) -> list[str]:
        return [*super()._settings(), "-c", f"max_connections={FEW_CONNECTIONS}"]


@dataclass(frozen=True, kw_only=True)
class Works:
    """Door, worker and upkeep on one database, with jobs in mid-call."""

    provider: SimulatorProcess
    upkeep: OwnProcess
    worker: CeleryWorker
    api: WebProcess
    client: httpx2.Client
    hidden: tuple[str, ...]

    def submit(self, text: str = "turbine") -> httpx2.Response:
        """Hand in a job for later."""
        return self.client.post("/jobs", json=call(text))

    def lines(self) -> dict[str, int]:
        """Lines that each has logged, but for the one of each request."""
        named = {"upkeep": self.upkeep, "worker": self.worker, "door": self.api}
        return {
            name: sum('"request' not in line and "request_" not in line for line in process.said().splitlines())
            for name, process in named.items()
        }


def call(text: str) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    with home.locked():
        yield home


@contextmanager
def works(database_url: str, redis_url: str, folder: Path) -> Iterator[Works]:
    """Start everything on this database and hand in jobs, which are in mid-call when the block begins."""
    config = folder / "penstock.toml"
    config.write_text(CONFIG)
    own_redis_url = RedisNumber.WORKERS.of(redis_url)
    release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(database_url), config=config))
    with (
        SimulatorProcess.start(latency=f"fixed:{CALL_MS}", requests_per_minute=0, tokens_per_minute=0) as provider,
        ExitStack() as running,
    ):
        env = {
            "PENSTOCK_REDIS_URL": own_redis_url,
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_ADMIN_KEY": ADMIN,
            "PENSTOCK_LEASE_SECONDS": str(LEASE_SECONDS),
            "PENSTOCK_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": provider.base_url,
        }
        upkeep = running.enter_context(OwnProcess("workers.upkeep", env))
        worker = running.enter_context(CeleryWorker(env))
        api = running.enter_context(WebProcess(env))
        api.until("/readyz", 200)
        until(lambda: " ready." in worker.said(), "the worker is ready")
        client = httpx2.Client(base_url=api.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60)
        running.enter_context(client)
        parts = httpx2.URL(database_url)
        here = Works(
            provider=provider,
            upkeep=upkeep,
            worker=worker,
            api=api,
            client=client,
            hidden=(str(parts.password), str(parts.port), "127.0.0.1", "SELECT", "INSERT"),
        )
        try:
            yield here
        except BaseException:
            for process in (upkeep, worker, api):
                print(process.said())  # noqa: T201 - shown by pytest with the failure
            raise


def in_mid_call(here: Works, database: "psycopg.Connection[Any]") -> None:
    """Hand in jobs and wait until all of them are being called."""
    for number in range(JOBS):
        here.submit(f"turbine {number}").raise_for_status()
    until(lambda: one(database, OPENED) == JOBS, "all jobs are in mid-call")


def one(database: "psycopg.Connection[Any]", query: str) -> int:
    [found] = database.execute(query).fetchone() or (0,)
    return int(found)


def assert_says_503(here: Works, *conditions: str) -> None:
    """Every way in answers 503, names the condition (one of these) and shows nothing of the server."""
    body = call(secrets.token_hex(LONG_BYTES))
    until(lambda: here.client.post("/jobs", json=body).status_code == 503, "the door refuses")
    answers = [here.client.post("/jobs", json=body), here.client.post("/v1/chat/completions", json=body)]
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert any(condition in answer.json()["error"]["message"] for condition in conditions), answer.text
        assert not any(word in answer.text for word in here.hidden)


def assert_all_went_on(here: Works, database: "psycopg.Connection[Any]") -> None:
    """Each job is completed, by one call that nobody made twice, and the door takes work in."""
    until(
        lambda: all(state == "completed" for _, state, _, _ in database.execute(STORIES).fetchall()),
        "everything is completed",
        RESUME_SECONDS,
    )
    stories = database.execute(STORIES).fetchall()
    assert {(deaths, attempts) for _, _, deaths, attempts in stories} == {(0, 1)}
    assert here.provider.meter()["accepted"] == len(stories) >= JOBS
    until(lambda: here.submit().status_code == 200, "the door takes work in again", RESUME_SECONDS)
    assert all(process.is_alive for process in (here.upkeep, here.worker, here.api))


def assert_no_flood(here: Works, before: dict[str, int]) -> None:
    assert {
        name: lines - before[name] for name, lines in here.lines().items() if lines - before[name] > MOST_LINES
    } == {}


class Crowd:
    """Strangers who hold every connection that the server has."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._held: list[psycopg.Connection[Any]] = []

    def fill(self) -> None:
        """Take what is free, and what others hold, until nobody else holds any."""
        until(self._crowd_out, "strangers hold every connection")

    def _crowd_out(self) -> bool:
        with suppress(psycopg.OperationalError):
            while True:
                self._held.append(psycopg.connect(self._url, autocommit=True))
        return not self._held[0].execute(EVICT).fetchall()

    def leave(self) -> None:
        while self._held:
            self._held.pop().close()


def test_too_many_connections_are_said_held_out_and_gone_on_from(home: Home, redis_url: str, tmp_path: Path) -> None:
    with (
        NarrowPostgres(home).running() as postgres,
        works(postgres.url, redis_url, tmp_path) as here,
        psycopg.connect(postgres.url, autocommit=True) as database,
    ):
        crowd = Crowd(postgres.url)
        in_mid_call(here, database)
        before = here.lines()
        crowd.fill()
        try:
            assert_says_503(here, "no connection free")
            until(lambda: one(database, LIVING) == 0, "leases have run out meanwhile")
            assert one(database, HELD) == JOBS
            assert_says_503(here, "no connection free")
            assert_no_flood(here, before)
        finally:
            crowd.leave()

        assert_all_went_on(here, database)
        assert "no connection free" in here.worker.said()


@contextmanager
def tight_disk(folder: Path, size: int = TIGHT_BYTES) -> Iterator[Path]:
    """A file system of its own with little room. Skips where nobody may mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def fill_up(file: Path) -> None:
    """Write until there is no room."""
    with file.open("ab", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def test_a_full_disk_is_said_held_out_and_gone_on_from(home: Home, redis_url: str, tmp_path: Path) -> None:
    with tight_disk(tmp_path / "tight") as disk, Postgres(home).running() as postgres:
        room = disk / "tables"
        room.mkdir()
        postgres.privileges.give(room)
        with psycopg.connect(postgres.bootstrap_url, autocommit=True) as server:
            server.execute(f"CREATE TABLESPACE tight LOCATION '{room}'")
            server.execute("CREATE DATABASE tight TABLESPACE tight")
        url = f"{postgres.bootstrap_url.rpartition('/')[0]}/tight"
        with works(url, redis_url, tmp_path) as here, psycopg.connect(url, autocommit=True) as database:
            in_mid_call(here, database)
            before = here.lines()
            ballast = disk / "ballast"
            fill_up(ballast)
            try:
                assert_says_503(here, "disk of Postgres is full")
                until(lambda: "disk of Postgres is full" in here.worker.said(), "the worker holds")
                assert_no_flood(here, before)
            finally:
                ballast.unlink()

            assert_all_went_on(here, database)


def test_a_disk_too_full_for_the_log_ends_the_server_and_nothing_else(redis_url: str, tmp_path: Path) -> None:
    with tight_disk(tmp_path / "tight", WHOLE_BYTES) as disk:
        home = Home(disk / "home")
        with (
            home.locked(),
            Postgres(home).running() as postgres,
            works(postgres.url, redis_url, tmp_path) as here,
        ):
            with psycopg.connect(postgres.url, autocommit=True) as database:
                in_mid_call(here, database)
            before = here.lines()
            ballast = disk / "ballast"
            fill_up(ballast)
            try:
                until(lambda: not goes_on_writing(postgres.url), "the server cannot write its log")
                assert_says_503(here, "disk of Postgres is full", "cannot be reached")
                until(lambda: "jobs_wait_for_postgres" in here.worker.said(), "the worker holds")
                assert_no_flood(here, before)
            finally:
                ballast.unlink()

            process = postgres.process
            if process is not None and process.poll() is not None:
                postgres.start()
            until(lambda: goes_on_writing(postgres.url), "the server is back", RESUME_SECONDS)
            with psycopg.connect(postgres.url, autocommit=True) as database:
                assert_all_went_on(here, database)


def goes_on_writing(url: str) -> bool:
    """Write some megabytes of log, and nothing that stays."""
    try:
        with psycopg.connect(url) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'ballast', repeat('x', 4000000))")
    except psycopg.Error:
        return False
    return True
