"""P5: what could not be saved is seen by its causes, taken elsewhere and back, and replayed with care, by one person
at a command line and over HTTP, in a running stack."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.client.address import Address
from cli.client.http import ApiClient
from config.exit_codes import ExitCode
from stack.children import wait_until
from tests.acceptance.test_acceptance_sdk import SCHEMA
from tests.support.simulator_process import CHECKOUT, SimulatorProcess
from tests.support.stack_process import StackProcess

REST_SECONDS = 30.0
COMMAND_SECONDS = 60.0
BROKEN = {"wrong_type": 1.0}
"""The provider's `kind` has become an object, whatever one asks."""

CAUSES = {
    ("invalid_output", "kind: an object where a string belongs"): 3,
    ("refused", "the model refused"): 2,
    ("truncated", "The reply reached its output limit."): 1,
    ("too_large", "This model's maximum context length was exceeded. Please reduce the length of the messages."): 1,
}
SCENARIOS = ("refusal", "refusal", "truncation", "context_length")


def until(condition: Callable[[], bool], what: str) -> None:
    assert wait_until(condition, seconds=REST_SECONDS), what


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody of a tenant of their own, with a shell."""

    stack: StackProcess
    tenant: str
    key: str

    @property
    def api(self) -> ApiClient:
        return ApiClient(Address(url=self.stack.url, key=self.key))

    def types(self, *words: str, code: int = ExitCode.OK) -> "subprocess.CompletedProcess[str]":
        """Run `penstock` with these words; it must end with this code."""
        ended = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=CHECKOUT,
            env=os.environ | {"PENSTOCK_URL": self.stack.url, "PENSTOCK_API_KEY": self.key},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert ended.returncode == code, (words, ended.returncode, ended.stdout, ended.stderr)
        return ended

    def reads(self, *words: str) -> Any:  # noqa: ANN401 - parsed JSON
        return json.loads(self.types(*words, "--json").stdout)

    def has_dying(self, scenarios: tuple[str, ...] = (), *, plain: int = 0) -> list[str]:
        """Hand jobs in, and wait until all are dead: one for each scenario, and some without any."""
        told = [f"[[scenario:{name}]] turbine" for name in scenarios] + ["turbine"] * plain
        ids = [self.hands_in(f"{words} {number}") for number, words in enumerate(told)]
        until(lambda: self.states(ids) == {"dead": len(ids)}, "they die")
        return ids

    def hands_in(self, words: str) -> str:
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": words}],
            "lane": "normal",
            "output_contract": {"schema": SCHEMA},
        }
        return str(self.api.post("jobs", body=body)["id"])

    def states(self, ids: list[str]) -> dict[str, int]:
        query = "SELECT state, count(*) AS jobs FROM jobs WHERE id = ANY(%s) GROUP BY 1"
        return {row["state"]: row["jobs"] for row in self.stack.rows(query, ids)}

    def dead(self) -> set[str]:
        return {row["id"] for row in self.api.rows("dead-letters")}


@pytest.fixture
def person(stack: StackProcess) -> Person:
    tenant = f"t{uuid.uuid4().hex}"
    key = str(stack.api.post("keys", body={"tenant_id": tenant, "scopes": ["submit"]})["key"])
    return Person(stack=stack, tenant=tenant, key=key)


def test_dead_letters_are_grouped_by_their_causes_in_words_and_told_whole(
    person: Person, provider: SimulatorProcess
) -> None:
    provider.set_scenarios(BROKEN)
    ids = person.has_dying(SCENARIOS, plain=3)

    shown = person.types("dead-letters", "groups")
    groups = person.api.get("dead-letters", "groups")["data"]
    named = next(group for group in groups if group["reason"] == "invalid_output")
    listed = person.reads("dead-letters", "list", "--group", named["id"])
    story = person.reads("dead-letters", "show", named["example"])

    assert "7 jobs, 4 causes" in shown.stderr
    assert {(row[1], row[2]): int(row[0]) for row in map(_cells, shown.stdout.splitlines()[1:])} == CAUSES
    assert {letter["id"] for letter in listed} == set(ids[-3:])
    assert story["first_error"]["message"].startswith("kind: ")
    calls = story["attempts"]
    assert len(calls) > 1  # it was asked again before it was given up
    assert all(call["request"]["messages"] and call["reply"]["choices"] and call["complaint"] for call in calls)
    assert float(story["cost_usd"]) == pytest.approx(sum(float(call["cost_usd"]) for call in calls))
    assert story == person.api.get("dead-letters", named["example"])


def _cells(line: str) -> list[str]:
    return line.split("\t")


def test_an_export_comes_back_after_all_was_put_aside_and_never_by_half(
    person: Person, provider: SimulatorProcess, tmp_path: Path
) -> None:
    provider.set_scenarios(BROKEN)
    ids = person.has_dying(("refusal",), plain=2)
    before = {(group["cause"], group["count"]) for group in person.api.get("dead-letters", "groups")["data"]}
    whole, broken = tmp_path / "letters.jsonl", tmp_path / "broken.jsonl"

    said = person.types("dead-letters", "export", "-o", str(whole)).stderr
    person.types("dead-letters", "discard", "--all")
    lines = whole.read_text().splitlines()
    broken.write_text("\n".join([lines[0], lines[1][:-9], lines[2].replace('"request"', '"question"')]))
    refusal = person.types("dead-letters", "import", str(broken), code=ExitCode.FAILURE).stderr
    after_refusal = person.dead()
    taken = person.types("dead-letters", "import", str(whole)).stderr

    assert "3 exported" in said
    assert refusal.startswith("penstock: line 2: it is not JSON")
    assert "Also wrong: 3. Nothing was imported." in refusal
    assert after_refusal == set()
    assert taken == "3 imported, 0 were here before\n"
    assert person.dead() == set(ids)
    assert {(group["cause"], group["count"]) for group in person.api.get("dead-letters", "groups")["data"]} == before


def test_canaries_hold_a_replay_back_until_the_provider_is_mended(person: Person, provider: SimulatorProcess) -> None:
    provider.set_scenarios(BROKEN)
    ids = person.has_dying(plain=5)
    calls_before = provider.meter()["accepted"]

    price = person.reads("dead-letters", "replay", "--all", "--dry-run")
    calls_of_dry_run = provider.meter()["accepted"] - calls_before
    stopped = person.types("dead-letters", "replay", "--all", "--canary", "2", code=ExitCode.INCOMPLETE)
    seen = person.reads("replays", "show", stopped.stdout.strip())
    held = person.stack.rows("SELECT id FROM jobs WHERE id = ANY(%s) AND generation = 0", ids)
    provider.set_scenarios({})
    resumed = person.types("replays", "resume", seen["id"])
    until(lambda: person.states(ids) == {"completed": 3, "dead": 2}, "the three that were held complete")
    good = person.types("dead-letters", "replay", "--all", "--canary", "1")

    assert (price["count"], price["unpriced"], calls_of_dry_run) == (5, 0, 0)
    assert 0 < float(price["one_call_usd"]) < float(price["worst_case_usd"])
    assert "0 of 2 canaries completed; 0.9 of them were asked for" in stopped.stderr
    assert (seen["state"], seen["replayed"], seen["canaries"]) == ("stopped", 2, {"dead": 2})
    assert len(held) == 3
    assert "running: 2 of 5 replayed" in resumed.stderr
    assert "completed: 2 of 2 replayed" in good.stderr
    assert "1 of 1 canaries completed" in good.stderr
    until(lambda: person.states(ids) == {"completed": 5}, "the last one completes")
    assert person.dead() == set()


def test_a_replay_asks_what_its_patch_says(person: Person, provider: SimulatorProcess, tmp_path: Path) -> None:
    provider.set_scenarios(BROKEN)
    [job_id] = person.has_dying(plain=1)
    provider.set_scenarios({})
    contract = {"type": "object", "properties": {"mass": {"type": "integer"}}, "required": ["mass"]}
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(contract))

    person.types(
        *("dead-letters", "replay", job_id, "--model", "large", "--lane", "high", "--set", "temperature=0"),
        *("--contract", str(path), "--message", "Say its mass.", "--deadline", "120", "--max-cost", "0.5"),
    )

    until(lambda: person.states([job_id]) == {"completed": 1}, "it completes")
    job = person.reads("jobs", "show", job_id)
    sent = job["attempts"][-1]["request"]
    assert (job["lane"], job["model"], job["attempts"][-1]["target"]) == ("high", "large", "openai/gpt-4.1")
    assert sent["temperature"] == 0
    assert [message["content"] for message in sent["messages"]] == ["turbine 0", "Say its mass."]
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["mass"]
    assert isinstance(job["output"]["mass"], int)
    left = datetime.fromisoformat(job["expires_at"]) - datetime.fromisoformat(job["attempts"][-1]["opened_at"])
    assert timedelta() < left <= timedelta(seconds=120)
    [row] = person.stack.rows("SELECT max_cost_nano_usd FROM jobs WHERE id = %s", job_id)
    assert row["max_cost_nano_usd"] == 500_000_000


def test_a_paced_replay_outlives_its_upkeep_and_stops_when_it_is_cancelled(
    person: Person, provider: SimulatorProcess
) -> None:
    provider.set_scenarios(BROKEN)
    ids = person.has_dying(plain=12)
    provider.set_scenarios({})

    begun = person.types("dead-letters", "replay", "--all", "--per-second", "0.8", "--no-wait").stdout.strip()
    until(lambda: person.api.get("replays", begun)["replayed"] >= 1, "it begins")
    person.stack.kill("upkeep")
    killed_at = person.api.get("replays", begun)["replayed"]
    until(lambda: person.api.get("replays", begun)["replayed"] > killed_at, "another upkeep goes on")
    cancelled = person.types("replays", "cancel", begun).stderr
    ended = person.api.get("replays", begun)

    moved = ended["replayed"]
    assert f"cancelled: {moved} of 12 replayed" in cancelled
    assert killed_at < moved < 12
    until(lambda: person.states(ids) == {"completed": moved, "dead": 12 - moved}, "the rest stays dead")
    assert person.api.post("replays", begun, "cancel")["state"] == "cancelled"
