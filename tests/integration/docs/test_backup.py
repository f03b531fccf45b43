"""The commands of the page on backup, on real servers: a dump with work under way, a lost Redis, a restore."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client.address import Address
from cli.client.http import ApiClient
from stack.children import wait_until
from stack.home import Home
from stack.privileges import shipped_programs
from stack.roles import DATABASE
from stack.servers import EmbeddedServers
from tests.support.doc_pages import Shell, blocks_of
from tests.support.simulator_process import CHECKOUT, SimulatorProcess
from tests.support.stack_process import CONFIG, StackProcess

PAGE = CHECKOUT / "docs" / "backup-and-restore.md"
RESTORED = "restored"
"""The name that the page gives the new database."""

SECONDS = 30.0
PLAIN, POOR, LOW = 10, 10, 5
BUDGETS = """
[[budgets]]
scope = "global"
window = "month"
limit_usd = "1000"
[[budgets]]
scope = "tenant:poor"
window = "month"
limit_usd = "0.0018"
"""
"""Little more than one reply at full length, so that most of the ten jobs wait."""

UNKNOWN = "SELECT count(*) AS attempts FROM attempts WHERE state IN ('opened', 'suspense')"
STATES = "SELECT id, state FROM jobs"


@pytest.fixture
def provider() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(requests_per_minute=0, tokens_per_minute=0) as running:
        yield running


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """Servers that may be lost."""
    with EmbeddedServers.started(Home(tmp_path / "servers")) as running:
        yield running


class Work:
    """Jobs in every state that matters: ended, parked for a budget, paused, and one whose call never ends."""

    def __init__(self, stack: StackProcess) -> None:
        self._stack = stack
        created = stack.api.post("keys", body={"tenant_id": "poor", "scopes": ["submit"]})
        poor = ApiClient(Address(url=stack.url, key=str(created["key"])))
        self.hung = self._hand_in(stack.api, "low", "turbine [[scenario:hang*1]]")
        assert wait_until(lambda: states(stack)["running"] == 1, seconds=SECONDS)
        stack.api.post("controls", "pause", body={"kind": "lane", "name": "low"})
        for number in range(LOW):
            self._hand_in(stack.api, "low", f"turbine {number}")
        for number in range(PLAIN):
            self._hand_in(stack.api, "normal", f"turbine {number}")
        for number in range(POOR):
            self._hand_in(poor, "normal", f"turbine {number}")
        assert wait_until(self._stands, seconds=SECONDS), states(stack)

    def _hand_in(self, api: ApiClient, lane: str, words: str) -> str:
        body = {"model": "small", "messages": [{"role": "user", "content": words}], "lane": lane}
        return str(api.post("jobs", body=body)["id"])

    def _stands(self) -> bool:
        """Whether all that can end has ended, and Redis has heard of it."""
        found = states(self._stack)
        ended = found["completed"] + found["waiting"] == PLAIN + POOR and found["waiting"] > 0
        return (
            ended
            and found["running"] == 1
            and self._stack.rows(UNKNOWN)[0]["attempts"] == 1
            and balances(self._stack)["tenant:poor"][1] == "0.000000000"
        )


def states(stack: StackProcess) -> Counter[str]:
    return Counter(row["state"] for row in stack.rows(STATES))


def balances(stack: StackProcess) -> dict[str, tuple[str, str]]:
    """Settled and reserved money in Redis, by scope."""
    return {row["scope"]: (row["settled_usd"], row["reserved_usd"]) for row in stack.api.rows("budgets")}


def lose(servers: EmbeddedServers, home: Home) -> None:
    """Redis comes back without anything."""
    servers.valkey.stop()
    shutil.rmtree(home.valkey)
    home.valkey.mkdir()
    servers.valkey.start()


def test_a_restore_without_redis_has_every_balance_and_every_job(
    own_servers: EmbeddedServers, provider: SimulatorProcess, tmp_path: Path
) -> None:
    dump, restore = [block.text for block in blocks_of(PAGE) if block.kind == "sh"]
    server_url = own_servers.postgres.bootstrap_url
    restored_url = own_servers.postgres.url.removesuffix(DATABASE) + RESTORED
    config = CONFIG[: CONFIG.index("[[budgets]]")] + BUDGETS
    env = {
        "PENSTOCK_REDIS_URL": own_servers.valkey.url,
        "PENSTOCK_DATABASE_URL": own_servers.postgres.url,
        "PENSTOCK_DRAIN_GRACE_SECONDS": "0",
    }
    terminal = env | {
        "PATH": f"{shipped_programs()}{os.pathsep}{os.environ['PATH']}",
        "SERVER_URL": server_url,
        "RESTORED_URL": restored_url,
    }
    with Shell(tmp_path, terminal) as shell:
        with StackProcess.started(tmp_path / "home", provider=provider, config=config, env=env) as stack:
            work = Work(stack)
            before, jobs, spent = balances(stack), stack.rows(STATES), stack.ledger_nano_usd()
            shell.run(dump)
        lose(own_servers, Home(tmp_path / "servers"))
        shell.run(restore)
    provider.reset_meter()
    env |= {"PENSTOCK_DATABASE_URL": restored_url, "PENSTOCK_REDIS_URL": own_servers.valkey.url}

    with StackProcess.started(tmp_path / "home", provider=provider, config=config, env=env) as stack:
        assert wait_until(lambda: balances(stack) == before, seconds=SECONDS), (before, balances(stack))
        assert stack.ledger_nano_usd() == spent > 0
        assert "ledger_rebuilt" in stack.logs("upkeep")
        stack.api.post("controls", "resume", body={"kind": "lane", "name": "low"})
        stack.api.post("budgets", body={"scope": "tenant:poor", "window": "month", "limit_usd": "1"})
        assert wait_until(lambda: states(stack) == {"completed": len(jobs)}, seconds=SECONDS), states(stack)
        assert {row["id"] for row in stack.rows(STATES)} == {row["id"] for row in jobs}
        assert stack.api.get("jobs", work.hung)["paid_twice_possible"]
        assert stack.ledger_nano_usd() - spent == provider.meter()["bill_nano_usd"]
