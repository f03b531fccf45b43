"""Upkeep asks an account that keeps completions what a lost call came to: the ledger then equals the bill."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from config.settings import Settings
from tasks.release import release
from tests.integration.conftest import RedisNumber
from tests.support.own_process import OwnProcess, WebProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.web_process import eventually

ADMIN = "pk_admin"
CATALOGUE = """
[providers.openai]
lookup = true
[models."gpt-4.1-mini"]
[aliases]
small = ["gpt-4.1-mini"]
[[budgets]]
scope = "global"
window = "month"
limit_usd = 10
"""
AGED = "UPDATE attempts SET closed_at = clock_timestamp() - interval '38 seconds' WHERE state = 'suspense'"
"""Two seconds before its third look."""

ATTEMPTS = "SELECT a.id, a.state, a.outcome, a.cost_nano_usd FROM attempts a"
LEDGER = "SELECT attempt_id, kind, nano_usd FROM ledger"


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start() as running:
        yield running


@pytest.fixture
def env(redis_url: str, fresh_database_url: str, provider: SimulatorProcess, tmp_path: Path) -> dict[str, str]:
    own_redis_url = RedisNumber.SUSPENSE.of(redis_url)
    config = tmp_path / "penstock.toml"
    config.write_text(CATALOGUE)
    release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(fresh_database_url), config=config))
    return {
        "PENSTOCK_REDIS_URL": own_redis_url,
        "PENSTOCK_DATABASE_URL": fresh_database_url,
        "PENSTOCK_CONFIG": str(config),
        "PENSTOCK_ADMIN_KEY": ADMIN,
        "OPENAI_API_KEY": "sk-simulated",
        "OPENAI_BASE_URL": provider.base_url,
    }


def rows(url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


def lost(api: httpx2.Client, scenario: str) -> None:
    """A call whose answer never comes, of a job whose time is over before it could ask for it."""
    said = [{"role": "user", "content": f"[[scenario:{scenario}]] {uuid.uuid4().hex}"}]
    api.post("/v1/chat/completions", json={"model": "small", "messages": said, "store": True, "deadline_seconds": 0.3})


def test_what_a_lost_call_cost_is_asked_for_and_booked(
    env: dict[str, str], fresh_database_url: str, provider: SimulatorProcess
) -> None:
    url = fresh_database_url
    with OwnProcess("workers.upkeep", env) as upkeep, WebProcess(env) as process:
        process.until("/readyz", 200)
        with httpx2.Client(base_url=process.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=30) as api:
            lost(api, "reset_after")
            told, *_ = eventually(
                lambda: api.get("/budgets/suspense").json()["data"],
                lambda found: bool(found) and found[0]["job_state"] == "expired",
            )
            with psycopg.connect(url) as connection:
                connection.execute(AGED)
            eventually(lambda: rows(url, ATTEMPTS), lambda found: all(row["state"] == "posted" for row in found))
            eventually(lambda: api.get("/budgets").json()["data"][0], lambda row: row["reserved_usd"] == "0.000000000")
        said = upkeep.said()

    bills = provider.bills()
    assert (told["resolved_by"], told["resolved_at"] < told["presumed_at"]) == ("look-up", True)
    assert {row["attempt_id"]: row["nano_usd"] for row in rows(url, LEDGER)} == {
        attempt_id: bill["nano_usd"] for attempt_id, bill in bills.items()
    }
    assert {row["kind"] for row in rows(url, LEDGER)} == {"post"}
    assert "suspense_looked_up" in said


def test_upkeep_that_has_no_key_does_everything_else(env: dict[str, str]) -> None:
    without = {name: value for name, value in env.items() if name != "OPENAI_API_KEY"}

    with OwnProcess("workers.upkeep", without | {"OPENAI_API_KEY": ""}) as upkeep:
        said = eventually(upkeep.said, lambda words: "upkeep_started" in words)

    assert "look_ups_off" in said
