"""What an operator sees while a provider shuts a family of models: command line, HTTP, metrics and rows say the same.

A stack and a provider of its own, because everything that others would send is held here too.
"""

import json
from collections.abc import Iterator, Mapping

import pytest

from schemas.jsons import JsonObject
from tests.support.limit_views import (
    SCRAPED_EVERY_SECONDS,
    counts,
    eventually,
    hand_in,
    limits_of,
    printed,
    samples,
)
from tests.support.simulator_process import SimulatorProcess
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
THAWED_SECONDS = FREEZE_SECONDS + 20.0

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


def rows_by_lane(stack: StackProcess) -> dict[str, int]:
    return {row["lane"]: row["jobs"] for row in stack.rows(ROWS)}


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
