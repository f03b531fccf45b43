"""What an operator sees while a provider shuts a family of models: command line, HTTP, metrics and rows say the same.

A stack and a provider of its own, because everything that others would send is held here too.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.jsons import JsonObject
from stack.children import wait_until
from tests.support.simulator_process import CHECKOUT, SimulatorProcess
from tests.support.stack_process import StackProcess

CONFIG = """\
[models."gpt-4.1-mini"]
requests_per_minute = 6000
family = "shared"
[models."gpt-4.1"]
requests_per_minute = 9000
max_in_flight = 50
family = "shared"
[models."gpt-5-mini"]
requests_per_minute = 6000
[aliases]
small = ["gpt-4.1-mini"]
falling = ["gpt-4.1", "gpt-5-mini"]
"""
FAMILY, OTHER = "openai/shared", "openai/gpt-5-mini"
FREEZE_SECONDS = 25
"""Several times what the looks below take, so that a busy machine does not thaw it under them."""
SEEN_SECONDS, THAWED_SECONDS = 12.0, FREEZE_SECONDS + 20.0
WOKEN_SECONDS = 20.0
"""Far less than the minute after which a job that waits for a stopped account asks again by itself."""
SCRAPED_EVERY_SECONDS = 11.0
"""Gauges are believed for ten seconds."""

WORK = {"high": [("gpt-4.1", 3), ("falling", 4)], "low": [("small", 30), ("gpt-4.1-mini", 10)]}
WAITING = {"high": 7, "low": 41}
"""By lane: the work above, and the job that met the refusal."""

ROWS = """
SELECT lane, count(*) AS jobs FROM jobs
WHERE state IN ('queued', 'running', 'waiting') AND model <> 'gpt-5-mini' GROUP BY lane
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(
        "--throttle-retry-after-seconds", str(FREEZE_SECONDS), requests_per_minute=0
    ) as running:
        yield running


@pytest.fixture(scope="module")
def shut(strict: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    home = tmp_path_factory.mktemp("limits") / "home"
    with StackProcess.started(home, provider=strict, config=CONFIG) as running:
        yield running


def hand_in(stack: StackProcess, model: str, lane: str, words: str = "turbine") -> str:
    body = {"model": model, "metadata": {"lane": lane}, "messages": [{"role": "user", "content": words}]}
    return str(stack.api.post("jobs", body=body)["id"])


def limits_of(stack: StackProcess, target: str) -> dict[str, JsonObject]:
    """The rows of a target as HTTP tells them, by the name of the limit."""
    return {row["limit"]: row for row in stack.api.get("limits")["data"] if row["target"] == target}


def counts(row: JsonObject) -> dict[str, int]:
    return {lane: told["jobs"] for lane, told in row["waiting"].items()}


def rows_by_lane(stack: StackProcess) -> dict[str, int]:
    return {row["lane"]: row["jobs"] for row in stack.rows(ROWS)}


def reasons(stack: StackProcess, jobs: Sequence[str]) -> list[str]:
    return sorted(stack.api.get("jobs", job)["wait_reason"] or "" for job in jobs)


def printed(stack: StackProcess, *words: str) -> str:
    command = [sys.executable, "-m", "cli", "limits", *words, "--home", str(stack.home)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout


def samples(stack: StackProcess, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """The samples of one gauge that have these labels, by the values of their other labels."""
    key = (stack.home / "secrets" / "metrics-key").read_text()
    scrape = Request(f"{stack.url}/metrics", headers={"authorization": f"Bearer {key}"})  # noqa: S310 - loopback
    with build_opener(ProxyHandler({})).open(scrape) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        tuple(value for label, value in sorted(sample.labels.items()) if label not in labels): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def eventually(look: Callable[[], Any], wanted: Any, seconds: float = SEEN_SECONDS) -> None:  # noqa: ANN401 - any value
    assert wait_until(lambda: look() == wanted, seconds=seconds), look()


def of_limits(rows: Mapping[str, JsonObject]) -> dict[tuple[str, str], int]:
    """What the gauges show of these rows; what is used in a minute moves by itself."""
    figures = ("configured", "learned", "effective")
    return {
        (figure, name): row[figure] for name, row in rows.items() for figure in figures if row[figure] is not None
    } | {("used", "in_flight"): rows["in_flight"]["used"]}


@pytest.mark.slow
def test_while_a_family_is_frozen_all_views_agree_with_the_rows(shut: StackProcess, strict: SimulatorProcess) -> None:
    refused = hand_in(shut, "small", "low", "[[scenario:throttle*1]]")
    eventually(lambda: limits_of(shut, FAMILY)["in_flight"]["shut_by"], "retry_after")
    made = [hand_in(shut, model, lane) for lane, work in WORK.items() for model, number in work for _ in range(number)]
    eventually(lambda: counts(limits_of(shut, FAMILY)["in_flight"]), WAITING)

    told, listed = limits_of(shut, FAMILY), json.loads(printed(shut, "--json"))
    table = printed(shut)
    answered = hand_in(shut, "gpt-5-mini", "low")
    eventually(lambda: shut.api.get("jobs", answered)["state"], "completed")

    assert rows_by_lane(shut) == WAITING
    assert {row["limit"]: counts(row) for row in listed if row["target"] == FAMILY} == dict.fromkeys(told, WAITING)
    assert {name: row["configured"] for name, row in told.items()} == {"requests_per_minute": 6_000, "in_flight": 50}
    shown = [line.split("\t") for line in table.splitlines()]
    assert [row[6] for row in shown if row[0] == FAMILY] == ["high 7, low 41"] * 2
    assert [row[8] for row in shown if row[0] == FAMILY] == ["retry_after"] * 2
    assert (limits_of(shut, OTHER)["in_flight"]["waiting"], limits_of(shut, OTHER)["in_flight"]["shut_by"]) == (
        {},
        None,
    )

    measured = samples(shut, "penstock_waiting_jobs", target=FAMILY)
    told = limits_of(shut, FAMILY)
    assert measured == {("critical",): 0, ("high",): 7, ("normal",): 0, ("low",): 41}
    assert samples(shut, "penstock_frozen_seconds", target=OTHER) == {(): 0}
    [frozen] = samples(shut, "penstock_frozen_seconds", target=FAMILY).values()
    assert told["in_flight"]["frozen_seconds"] == pytest.approx(frozen, abs=2)
    gauges = samples(shut, "penstock_limit", target=FAMILY)
    gauges.pop(("used", "requests_per_minute"))
    assert gauges == pytest.approx(of_limits(told), rel=0.01)

    eventually(lambda: rows_by_lane(shut), {}, THAWED_SECONDS)
    after = limits_of(shut, FAMILY)["in_flight"]
    assert (after["waiting"], after["frozen_until"], after["shut_by"]) == ({}, None, None)
    assert {shut.api.get("jobs", job)["state"] for job in (refused, *made)} == {"completed"}
    assert strict.meter()["accepted"] == len(made) + 2
    eventually(
        lambda: samples(shut, "penstock_waiting_jobs", target=FAMILY).get(("low",)), 0, seconds=SCRAPED_EVERY_SECONDS
    )


def test_an_account_without_money_stops_visibly_until_an_operator_opens_it(
    shut: StackProcess,
) -> None:
    made = [hand_in(shut, "gpt-5-mini", "normal", f"[[scenario:money*1]] {number}") for number in range(2)]
    eventually(lambda: limits_of(shut, OTHER)["in_flight"]["shut_by"], "account_stopped")
    made += [hand_in(shut, "gpt-5-mini", "high") for _ in range(4)]
    eventually(lambda: reasons(shut, made), ["account_stopped"] * 4 + ["money"] * 2)
    eventually(lambda: counts(limits_of(shut, OTHER)["in_flight"]), {"high": 4, "normal": 2})

    told, family = limits_of(shut, OTHER)["in_flight"], limits_of(shut, FAMILY)["in_flight"]
    shown = [line.split("\t") for line in printed(shut).splitlines()]

    assert (told["stopped"], told["frozen_until"]) == ("insufficient_quota", None)
    assert (family["shut_by"], family["stopped"]) == ("account_stopped", "insufficient_quota")
    assert {(row[8], row[9]) for row in shown[1:]} == {("account_stopped", "insufficient_quota")}
    eventually(
        lambda: samples(shut, "penstock_account_stopped"),
        {(FAMILY,): 1.0, (OTHER,): 1.0},
        seconds=SCRAPED_EVERY_SECONDS,
    )
    assert samples(shut, "penstock_waiting_jobs", target=OTHER)["high",] == 4

    opened, again = (json.loads(printed(shut, "open", "openai", "--json")) for _ in range(2))

    assert (opened["was_stopped_for"], again["was_stopped_for"]) == ("insufficient_quota", None)
    assert {row["shut_by"] for row in shut.api.get("limits")["data"]} == {None}
    eventually(lambda: {shut.api.get("jobs", job)["state"] for job in made}, {"completed"}, WOKEN_SECONDS)
