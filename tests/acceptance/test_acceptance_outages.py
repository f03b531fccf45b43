"""P3: stores that go away are seen in the logs, briefly, and not in the results."""

from collections.abc import Iterator

import pytest

from schemas.errors import PenstockError
from stack.children import wait_until
from tests.chaos.site import Site, running_site
from tests.support.simulator_process import SimulatorProcess

AWAY_SECONDS = 10.0
"""Twice a lease, so that each lease runs out while nobody can renew it."""

BACK_SECONDS = 10.0
MOST_LINES = 40
"""Lines that one process may log for one outage, its end included."""

JOBS = 30
PIECES = ("web", "standard-1", "standard-2", "upkeep-1")
ENV = {"PENSTOCK_LEASE_SECONDS": "5", "PENSTOCK_HEARTBEAT_SECONDS": "1", "PENSTOCK_DRAIN_GRACE_SECONDS": "10"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        SimulatorProcess.start(latency="fixed:1500", requests_per_minute=0, tokens_per_minute=0) as provider,
        running_site(tmp_path_factory.mktemp("site"), provider, env=ENV, pieces=PIECES) as running,
    ):
        yield running


def hand_in(site: Site, number: int) -> str:
    body = {"model": "small", "messages": [{"role": "user", "content": f"turbine {number}"}], "lane": "normal"}
    return str(site.api.post("jobs", body=body)["id"])


def completed(site: Site, ids: list[str]) -> bool:
    return all(site.api.get("jobs", job_id)["state"] == "completed" for job_id in ids)


def attempts(site: Site, ids: list[str]) -> list[int]:
    return [len(site.api.get("jobs", job_id)["attempts"]) for job_id in ids]


def seconds_pass(seconds: float) -> None:
    wait_until(lambda: False, seconds=seconds)


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_store_that_was_away_is_taken_up_again_by_itself(site: Site, name: str) -> None:
    store = site.valkey if name == "valkey" else site.postgres
    ids = [hand_in(site, number) for number in range(JOBS)]
    before = site.log_lines()

    site.end_store(store)
    seconds_pass(AWAY_SECONDS)
    if name == "valkey":
        ids.append(hand_in(site, JOBS))
    else:
        with pytest.raises(PenstockError):
            hand_in(site, JOBS)
    site.start_store(store)

    assert wait_until(lambda: site.is_ready() and completed(site, ids), seconds=BACK_SECONDS)
    assert attempts(site, ids) == [1] * len(ids)
    added = {piece: lines - before[piece] for piece, lines in site.log_lines().items()}
    assert max(added.values()) <= MOST_LINES, added
