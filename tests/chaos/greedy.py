"""A second tenant that floods the system with slow and huge jobs, and jobs of the first that must end all the same.

Its jobs are held to everything that others' are: stored once, paid once, valid. Only that they are refused is right.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import psycopg

from cli.client.address import Address
from cli.client.http import ApiClient
from schemas.errors import PenstockError
from simulator.scripted import directive
from tests.chaos.load import LANES, message_body

TENANT = "greedy"
FLOOD_CALLERS = 24
SLOW_MS, HUGE_CHARACTERS = 12_000, 200_000
"""Longer than a lease, so that it has to be renewed, and as long as a reply may well be."""

PROBES_PER_LANE = 3
Question = Callable[[psycopg.Connection], bool]
AT_REST = "SELECT count(*) FROM jobs WHERE id = ANY(%s) AND rested_at IS NULL"


def slow_and_huge(number: int) -> dict[str, Any]:
    """A job whose reply takes long, is large, and fits its contract."""
    content = [['{"size": 1, "kind": "', 1], ["x", HUGE_CHARACTERS], ['"}', 1]]
    return _scripted(number, directive(delay_ms=SLOW_MS, content=content))


def quick(number: int) -> dict[str, Any]:
    """A job whose provider answers at once."""
    return _scripted(number, directive(delay_ms=100, content='{"size": 1, "kind": "fan"}'))


def _scripted(number: int, marker: str) -> dict[str, Any]:
    return message_body(number) | {"messages": [{"role": "user", "content": f"turbine {number} {marker}"}]}


@dataclass(kw_only=True)
class GreedyTenant:
    """Hands in one job after the other in every lane, and makes calls, until it is told to stop."""

    url: str
    key: str
    sent: int = 0
    _over: Event = field(default_factory=Event)
    _threads: list[Thread] = field(default_factory=list)

    @classmethod
    def of(cls, api: ApiClient) -> "GreedyTenant":
        """Create the tenant's key as the operator of this door."""
        return cls(url=api.address.url, key=api.post("keys", body={"tenant_id": TENANT})["key"])

    def start(self) -> None:
        self._over.clear()
        self._threads = [Thread(target=self._flood, args=(number,), daemon=True) for number in range(FLOOD_CALLERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()

    def _flood(self, number: int) -> None:
        api, lane = ApiClient(Address(url=self.url, key=self.key)), LANES[number % len(LANES)]
        while not self._over.is_set():
            with suppress(PenstockError, OSError):  # refused for its greed, or the door is being killed
                api.post("jobs", body=slow_and_huge(self.sent) | {"lane": lane})
            self.sent += 1


def handed_in_beside(api: ApiClient) -> tuple[Question, Question]:
    """Hand in quick jobs of the first tenant in every lane.

    Returns two questions: whether those of all lanes but low have come to rest, and whether the low ones have. A low
    job waits for what is more urgent, its own tenant's backlog of the flood too.
    """
    with ThreadPoolExecutor(len(LANES)) as callers:
        bodies = [quick(number) | {"lane": lane} for lane in LANES for number in range(PROBES_PER_LANE)]
        ids = [str(accepted["id"]) for accepted in callers.map(lambda body: api.post("jobs", body=body), bodies)]
    low = [job_id for job_id, body in zip(ids, bodies, strict=True) if body["lane"] == "low"]
    return _all_at_rest([job_id for job_id in ids if job_id not in low]), _all_at_rest(low)


def _all_at_rest(ids: list[str]) -> Question:
    def over(connection: psycopg.Connection) -> bool:
        row = connection.execute(AT_REST, [ids]).fetchone()
        return row is not None and row[0] == 0

    return over
