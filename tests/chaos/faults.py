"""The faults, by name: what each does, how it ends, and how long the system was still because of it.

Lethal ones leave jobs behind whose holder is gone or has lost them; those jobs, and only those, may be paid twice.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from schemas.ids import JobId
from schemas.lanes import Lane
from stack.postgres import Postgres
from stack.valkey import Valkey
from tasks.broker import celery_app
from tasks.publish import RUN_TASK, Published, message
from tests.chaos.link import Link
from tests.chaos.site import LINKED, Site

WORKERS = ("interactive", "standard-1", "standard-2", "standard-3")
DUPLICATES = 60
AFTER_LEASE_SECONDS = 3.0
"""How long a pause or a cut outlasts the lease."""

HELD_BY = "SELECT id, fence FROM jobs WHERE state = 'running' AND holder LIKE %s"
MOVED_ON = """
SELECT count(*) FROM jobs j JOIN unnest(%s::text[], %s::bigint[]) AS g (id, fence) ON j.id = g.id
WHERE j.state = 'running' AND j.fence = g.fence OR j.state = 'queued'
"""
RESTED = "SELECT count(*) FROM jobs WHERE rested_at IS NOT NULL"


@dataclass(kw_only=True)
class Stall:
    """What is being waited for after a fault: `over` is asked until it says yes."""

    kind: str
    since: float
    over: Callable[[psycopg.Connection], bool]


@dataclass(kw_only=True)
class Faults:
    """Brings faults over a site, one at a time, and remembers what they may excuse."""

    site: Site
    chance: random.Random
    lease_seconds: float
    done: list[str] = field(default_factory=list)
    orphans: set[str] = field(default_factory=set)
    stalls: list[Stall] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def deck(self) -> Iterator[str]:
        """Every kind once in a random order, and again and again."""
        kinds = list(self._kinds())
        while True:
            self.chance.shuffle(kinds)
            yield from kinds

    def bring(self, kind: str) -> None:
        self.done.append(kind)
        self._kinds()[kind]()

    def look(self) -> None:
        """End what is due, start again what has ended, and see what has recovered. Called several times a second."""
        now = time.monotonic()
        due = [step for at, step in self._later if at <= now]
        self._later = [(at, step) for at, step in self._later if at > now]
        for step in due:
            step()
        self.site.revive()
        self._see_recoveries(now)

    @property
    def quiet(self) -> bool:
        """Whether everything that was broken is whole again."""
        return not self._later and not self.stalls

    def _kinds(self) -> dict[str, Callable[[], None]]:
        return {
            "worker killed": lambda: self._kill(self.chance.choice(WORKERS)),
            "worker paused": lambda: self._pause(self.chance.choice(WORKERS)),
            "worker cut off": self._cut_worker,
            "worker drained": lambda: self.site.terminate(self.chance.choice(WORKERS)),
            "upkeep killed": lambda: self.site.kill(self.chance.choice(("upkeep-1", "upkeep-2"))),
            "upkeep paused": lambda: self._freeze(self.chance.choice(("upkeep-1", "upkeep-2"))),
            "upkeep cut off": lambda: self._break("upkeep-1"),
            "web killed": lambda: self._kill("web"),
            "redis killed": lambda: self._end_store(self.site.valkey, "redis killed"),
            "redis wiped": self._wipe,
            "redis paused": lambda: self._pause_store(self.site.valkey, "redis paused"),
            "postgres killed": lambda: self._end_store(self.site.postgres, "postgres killed"),
            "postgres paused": lambda: self._pause_store(self.site.postgres, "postgres paused"),
            "network slowed": self._slow,
            "messages doubled": self._double,
        }

    def _kill(self, name: str) -> None:
        pid = self.site.pid(name)
        self.site.kill(name)
        self._orphaned(pid, "web killed" if name == "web" else "worker killed")

    def _pause(self, name: str) -> None:
        self.site.pause(name)
        self._after(self.lease_seconds + AFTER_LEASE_SECONDS, lambda: self.site.resume(name))
        self._orphaned(self.site.pid(name), "worker paused")

    def _freeze(self, name: str) -> None:
        self.site.pause(name)
        self._after(self.lease_seconds + AFTER_LEASE_SECONDS, lambda: self.site.resume(name))

    def _cut_worker(self) -> None:
        self._break(LINKED[0])
        self._orphaned(self.site.pid(LINKED[0]), "worker cut off")

    def _break(self, name: str) -> None:
        links = self.site.links[name]
        way = self.chance.choice(("cut", "hold"))
        for link in links:
            getattr(link, way)()
        self._after(self.lease_seconds + AFTER_LEASE_SECONDS, lambda: _mend(links))

    def _slow(self) -> None:
        links = [link for pair in self.site.links.values() for link in pair]
        for link in links:
            link.slow()
        self._after(self.lease_seconds, lambda: _mend(links))

    def _wipe(self) -> None:
        self.site.wipe_redis()
        self._progress_after("redis wiped")

    def _end_store(self, store: Valkey | Postgres, kind: str) -> None:
        self.site.end_store(store)

        def start() -> None:
            self.site.start_store(store)
            self._progress_after(kind)

        self._after(self.chance.uniform(0.5, 2 * self.lease_seconds), start)

    def _pause_store(self, store: Valkey | Postgres, kind: str) -> None:
        assert store.process is not None
        pid = store.process.pid
        _signal(pid, signal.SIGSTOP)

        def resume() -> None:
            _signal(pid, signal.SIGCONT)
            self._progress_after(kind)

        self._after(self.lease_seconds + AFTER_LEASE_SECONDS, resume)

    def _double(self) -> None:
        with psycopg.connect(self.site.database_url) as connection:
            rows = connection.execute(
                "SELECT id, generation, lane FROM jobs WHERE state IN ('queued', 'running') LIMIT %s",
                [DUPLICATES],
            ).fetchall()
        app = celery_app(self.site.redis_url)
        for job_id, generation, lane in rows:
            body = message([Published(job_id=JobId(job_id), generation=generation)])
            app.send_task(RUN_TASK, args=[body], queue=Lane(lane).queue, ignore_result=True, retry=False)
        app.close()

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, step))

    def _orphaned(self, pid: int, kind: str) -> None:
        """Remember the jobs that this process held, and wait until all have moved on."""
        since = time.monotonic()
        with psycopg.connect(self.site.database_url) as connection:
            held = connection.execute(HELD_BY, [f"%:{pid}:%"]).fetchall()
        ids, fences = [row[0] for row in held], [row[1] for row in held]
        self.orphans.update(ids)

        def over(connection: psycopg.Connection) -> bool:
            row = connection.execute(MOVED_ON, [ids, fences]).fetchone()
            return row is not None and row[0] == 0

        if held:
            self.stalls.append(Stall(kind=kind, since=since, over=over))

    def _progress_after(self, kind: str) -> None:
        """Wait until another job has come to rest than those that had by now."""
        first: list[int] = []

        def over(connection: psycopg.Connection) -> bool:
            row = connection.execute(RESTED).fetchone()
            first.append(row[0] if row else 0)
            return first[-1] > first[0]

        self.stalls.append(Stall(kind=kind, since=time.monotonic(), over=over))

    def _see_recoveries(self, now: float) -> None:
        if not self.stalls:
            return
        try:
            with psycopg.connect(self.site.database_url, connect_timeout=1) as connection:
                still = [stall for stall in self.stalls if not stall.over(connection)]
        except psycopg.OperationalError:
            return
        for stall in self.stalls:
            if stall not in still:
                self.longest[stall.kind] = max(self.longest.get(stall.kind, 0.0), now - stall.since)
        self.stalls = still


def _mend(links: Iterable[Link]) -> None:
    for link in links:
        link.mend()


def _signal(parent_pid: int, number: signal.Signals) -> None:
    """Tell a process and its children."""
    pid = str(parent_pid)
    listed = subprocess.run(["ps", "-o", "pid=", "-p", pid, "--ppid", pid], capture_output=True, text=True, check=False)  # noqa: S607 - whichever ps
    for word in listed.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(word), number)
