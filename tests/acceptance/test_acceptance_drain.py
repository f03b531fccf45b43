"""P3: workers that are asked to end, once or twice, in turn or too soon, are not seen in what callers get."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from stack.children import wait_until
from tests.chaos.site import Site, running_site
from tests.support.simulator_process import SimulatorProcess

JOBS = 500
HANGING = 12
GRACE_SECONDS = 5.0
HURRY_SECONDS = 3.0
"""What a process may take from the second signal to its end: less than the grace, else it would prove nothing."""

KEPT = "small"
MODELS = (KEPT, "large")
"""The first is of a provider that keeps its replies, so that they can be looked up."""

REST_SECONDS = 40.0
TAKEN_UP_SECONDS = 10.0
"""Well below the lease: what is finished by then was handed back, not rescued."""

READY, DRAINING, LEASE_LOST = b" ready.", b"Warm shutdown", b"lease_lost"
WORKERS = ("standard-1", "standard-2")
PIECES = ("web", *WORKERS, "upkeep-1")
ENV = {
    "PENSTOCK_LEASE_SECONDS": "30",
    "PENSTOCK_HEARTBEAT_SECONDS": "2",
    "PENSTOCK_DRAIN_GRACE_SECONDS": str(GRACE_SECONDS),
    "PENSTOCK_SLOTS": "24",
    "PENSTOCK_RESERVED_CRITICAL_SLOTS": "2",
    "PENSTOCK_SLICE_SIZE": "8",
}

STORY = """
SELECT j.id, j.model, j.state, j.deaths, r.job_id IS NOT NULL AS has_result,
    array_agg(COALESCE(a.outcome, a.state) ORDER BY a.opened_at) AS outcomes
FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id LEFT JOIN job_results r ON r.job_id = j.id
WHERE j.id = ANY(%(ids)s) OR j.batch_id = %(batch_id)s
GROUP BY j.id, r.job_id
"""
HELD_BY = "SELECT id FROM jobs WHERE state = 'running' AND id = ANY(%(ids)s) AND holder LIKE %(holder)s"
AT_WORK = "SELECT id FROM jobs WHERE state = 'running' AND batch_id = %(batch_id)s AND holder LIKE %(holder)s"
LEFT = "SELECT id FROM jobs WHERE batch_id = %(batch_id)s AND state IN ('queued', 'running')"
LEDGER = "SELECT COALESCE(sum(nano_usd), 0)::bigint AS total FROM ledger"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        SimulatorProcess.start(latency="fixed:600", requests_per_minute=0, tokens_per_minute=0) as provider,
        running_site(tmp_path_factory.mktemp("drain"), provider, env=ENV, pieces=PIECES) as running,
    ):
        assert wait_until(lambda: all(said(running, name, READY) for name in WORKERS), seconds=REST_SECONDS)
        yield running


def rows(site: Site, query: str, **terms: object) -> list[dict[str, Any]]:
    with psycopg.connect(site.database_url, row_factory=dict_row) as connection:
        return connection.execute(query, {"ids": [], "batch_id": None} | terms).fetchall()


def said(site: Site, name: str, words: bytes) -> int:
    return site.home.log_path(name).read_bytes().count(words)


def is_busy(site: Site, name: str, batch_id: str) -> bool:
    return bool(rows(site, AT_WORK, batch_id=batch_id, holder=f"%:{site.pid(name)}:%"))


def ends(site: Site, name: str, seconds: float) -> bool:
    process = site.pieces[name].process
    assert process is not None
    return wait_until(lambda: process.poll() is not None, seconds=seconds)


def starts(site: Site, name: str) -> None:
    before = said(site, name, READY)
    site.start(name)
    assert wait_until(lambda: said(site, name, READY) > before, seconds=REST_SECONDS)


def a_batch(site: Site, folder: Path) -> str:
    path = folder / "batch.jsonl"
    path.write_text("\n".join(line(number) for number in range(JOBS)))
    with site.api.sdk() as client:
        uploaded = client.files.create(file=path, purpose="batch")
        made = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    return made.id


def line(number: int) -> str:
    body = {"model": "small", "messages": [{"role": "user", "content": f"turbine {number}"}]}
    return json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body})


def lines_of(site: Site, batch_id: str) -> list[dict[str, Any]]:
    with site.api.sdk() as client:
        assert wait_until(lambda: client.batches.retrieve(batch_id).status == "completed", seconds=REST_SECONDS)
        batch = client.batches.retrieve(batch_id)
        assert batch.error_file_id is None
        return [json.loads(text) for text in client.files.content(batch.output_file_id or "").text.splitlines()]


@contextmanager
def hanging(site: Site) -> Iterator[tuple[str, list[str]]]:
    """Jobs whose first call is never answered, all in mid-call; a worker that holds some of them, and those.

    The others are cancelled in the end: nobody else shall find the other worker's slots taken.
    """
    texts = [f"[[scenario:hang*1]] {number} {time.monotonic_ns()}" for number in range(HANGING)]
    bodies = [
        {"model": MODELS[number % 2], "messages": [{"role": "user", "content": text}]}
        for number, text in enumerate(texts)
    ]
    accepted = site.provider.meter()["accepted"]
    ids = [str(site.api.post("jobs", body=body)["id"]) for body in bodies]
    assert wait_until(lambda: site.provider.meter()["accepted"] >= accepted + HANGING, seconds=REST_SECONDS)
    held = {name: rows(site, HELD_BY, ids=ids, holder=f"%:{site.pid(name)}:%") for name in WORKERS}
    busiest = max(held, key=lambda name: len(held[name]))
    yield busiest, [row["id"] for row in held[busiest]]
    others = [row["id"] for name in WORKERS if name != busiest for row in held[name]]
    given_up = sum(said(site, name, LEASE_LOST) for name in WORKERS)
    for job_id in others:
        site.api.post("jobs", job_id, "cancel")
    assert wait_until(
        lambda: sum(said(site, name, LEASE_LOST) for name in WORKERS) >= given_up + len(others), seconds=REST_SECONDS
    )


def test_a_rolling_restart_under_load_is_invisible_in_results(site: Site, tmp_path: Path) -> None:
    site.provider.reset_meter()
    [before] = rows(site, LEDGER)
    batch_id = a_batch(site, tmp_path)

    for name in WORKERS:
        assert wait_until(partial(is_busy, site, name, batch_id), seconds=REST_SECONDS)
        site.terminate(name)
        assert ends(site, name, REST_SECONDS)
        starts(site, name)
    assert rows(site, LEFT, batch_id=batch_id), "the load ended before the restarts did"

    assert {answer["custom_id"] for answer in lines_of(site, batch_id)} == {str(number) for number in range(JOBS)}
    stories = rows(site, STORY, batch_id=batch_id)
    assert len(stories) == JOBS
    assert all(story["has_result"] and story["deaths"] == 0 for story in stories)
    assert {tuple(story["outcomes"]) for story in stories} == {("valid",)}
    [after] = rows(site, LEDGER)
    meter = site.provider.meter()
    assert (meter["accepted"], meter["billed_twice"]["client_request_ids"]) == (JOBS, 0)
    assert after["total"] - before["total"] == meter["bill_nano_usd"]


def test_what_outlasts_the_grace_is_handed_back_with_its_lease(site: Site) -> None:
    with hanging(site) as (name, ids):
        began = time.monotonic()
        site.terminate(name)

        assert ends(site, name, REST_SECONDS)
        assert GRACE_SECONDS <= time.monotonic() - began < GRACE_SECONDS + HURRY_SECONDS
        assert_handed_back_and_finished(site, ids)
        starts(site, name)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_hands_back_at_once(site: Site, second: signal.Signals) -> None:
    with hanging(site) as (name, ids):
        drains = said(site, name, DRAINING)
        site.terminate(name)
        assert wait_until(lambda: said(site, name, DRAINING) > drains, seconds=HURRY_SECONDS)

        os.kill(site.pid(name), second)

        assert ends(site, name, HURRY_SECONDS)
        assert_handed_back_and_finished(site, ids)
        starts(site, name)


def assert_handed_back_and_finished(site: Site, ids: list[str]) -> None:
    """Another worker finishes them long before their leases would have run out.

    Where the provider keeps its replies the first is found and used; else the call is made again, and that is said.
    """
    assert wait_until(
        lambda: all(story["has_result"] for story in rows(site, STORY, ids=ids)), seconds=TAKEN_UP_SECONDS
    )
    stories = rows(site, STORY, ids=ids)
    assert {(story["state"], story["deaths"]) for story in stories} == {("completed", 0)}
    for story in stories:
        is_kept = story["model"] == KEPT
        assert story["outcomes"] == (["valid"] if is_kept else ["handed_back", "valid"])
        assert site.api.get("jobs", story["id"])["paid_twice_possible"] is not is_kept
