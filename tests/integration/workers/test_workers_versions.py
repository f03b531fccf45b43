"""A release in the middle: processes of this version on a database of the next one, and of the one before.

The real processes, the real stores. The next version's database is this one's, expanded as the rules for migrations
allow (`test_storage_schema` holds each migration to them).
"""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from pydantic import SecretStr

from cli.main import main
from config.settings import Settings
from storage.database.schema import known_migrations, migrate
from tasks.release import release
from tests.integration.conftest import RedisNumber, empty_database
from tests.support.next_version import NEXT, expand
from tests.support.own_process import CeleryWorker, OwnProcess, WebProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.worker_process import until

ADMIN = "pk_admin"
CALL = {"model": "small", "messages": [{"role": "user", "content": "turbine"}]}
RELEASE_COMMAND = "python -m tasks.release"
CONFIG = """
[models."gpt-4.1-mini"]
requests_per_minute = 600000
price = {input = 1.0, output = 2.0}
[aliases]
small = ["gpt-4.1-mini"]
"""


@pytest.fixture
def own_database_url(database_url: str) -> Iterator[str]:
    with empty_database(database_url) as url:
        yield url


@pytest.fixture
def env(redis_url: str, own_database_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    config = tmp_path / "penstock.toml"
    config.write_text(CONFIG)
    with SimulatorProcess.start(requests_per_minute=0, tokens_per_minute=0) as provider:
        yield {
            "PENSTOCK_REDIS_URL": RedisNumber.WORKERS.of(redis_url),
            "PENSTOCK_DATABASE_URL": own_database_url,
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_ADMIN_KEY": ADMIN,
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": provider.base_url,
        }


def settings_of(env: dict[str, str]) -> Settings:
    return Settings(
        redis_url=SecretStr(env["PENSTOCK_REDIS_URL"]),
        database_url=SecretStr(env["PENSTOCK_DATABASE_URL"]),
        config=Path(env["PENSTOCK_CONFIG"]),
    )


def test_processes_of_this_version_go_on_with_the_next_versions_database(env: dict[str, str]) -> None:
    release(settings_of(env))
    expand(env["PENSTOCK_DATABASE_URL"])

    with (
        OwnProcess("workers.upkeep", env) as upkeep,
        CeleryWorker(env) as worker,
        WebProcess(env) as api,
        httpx2.Client(base_url=api.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=30) as client,
    ):
        api.until("/readyz", 200)
        call = client.post("/v1/chat/completions", json=CALL)
        jobs = [client.post("/jobs", json=CALL | {"lane": lane}).json()["id"] for lane in ("high", "normal", "low")]
        until(
            lambda: all(client.get(f"/jobs/{job}").json()["state"] == "completed" for job in jobs),
            "jobs of all lanes are completed",
        )
        warned = [NEXT in line for process in (upkeep, worker, api) for line in schema_lines(process.said())]

    assert call.status_code == 200
    assert warned == [True] * 3, "each of them says it, once"
    with psycopg.connect(env["PENSTOCK_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT DISTINCT weight, region FROM jobs").fetchall() == [(1, None)]


def schema_lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if "schema_is_newer" in line]


def test_a_release_of_the_previous_version_leaves_a_newer_database_alone(env: dict[str, str]) -> None:
    release(settings_of(env))
    expand(env["PENSTOCK_DATABASE_URL"])

    with OwnProcess("tasks.release", env) as again:
        assert again.wait() == 0
        assert NEXT in "".join(schema_lines(again.said()))


def test_no_process_starts_on_the_database_of_the_version_before(env: dict[str, str]) -> None:
    migrate(env["PENSTOCK_DATABASE_URL"], to=known_migrations()[-2])

    started = [
        CeleryWorker(env),
        OwnProcess("workers.upkeep", env),
        OwnProcess("workers.upkeep.isolated_job", env, "job_none", "0"),
        WebProcess(env),
    ]
    try:
        ends = [(process.wait(), RELEASE_COMMAND in process.said()) for process in started]
    finally:
        for process in started:
            process.kill()

    assert ends == [(6, True)] * 4


def test_check_says_whether_the_schema_fits_and_what_to_do(
    env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    url, newest = env["PENSTOCK_DATABASE_URL"], known_migrations()[-1]

    never = main(["check"], env), capsys.readouterr().err
    migrate(url, to=known_migrations()[-2])
    older = main(["check"], env), capsys.readouterr().err
    migrate(url)
    fits = main(["check"], env), capsys.readouterr().out
    expand(url)
    newer = main(["check"], env), capsys.readouterr().err

    assert [code for code, _ in (never, older, fits, newer)] == [6, 6, 0, 6]
    assert RELEASE_COMMAND in never[1]
    assert RELEASE_COMMAND in older[1]
    assert known_migrations()[-2] in older[1]
    assert f"schema: {newest}" in fits[1]
    assert NEXT in newer[1]
    assert all(len(said.splitlines()) == 1 for said in (never[1], older[1], newer[1]))
