"""The faults, by name: what each does, how it ends, and how long the system was still because of it.

Lethal ones leave jobs behind whose holder is gone or has lost them; those jobs, and only those, may be paid twice.
What a process holds while it is paused, cut off or drained counts as well: a claim that it had sent may land late.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar

import psycopg
import redis

from schemas.ids import JobId
from schemas.job import Published
from schemas.lanes import Lane
from stack.postgres import Postgres
from stack.valkey import Valkey
from tasks.dispatch.celery_app import celery_app
from tasks.dispatch.publisher import RUN_TASK, message
from tasks.maintenance.rescue_guard import RENEWAL_SECONDS
from tests.chaos.entrusted import gone_with_a_worker
from tests.chaos.greedy import GreedyTenant, handed_in_beside
from tests.chaos.link import Link
from tests.chaos.load import SCENARIOS
from tests.chaos.site import LINKED, PIECES, Site

WORKERS = ("interactive", "standard-1", "standard-2", "standard-3")
DUPLICATES = 60
AFTER_LEASE_SECONDS = (0.2, 3.0)
"""How long a pause or a cut outlasts the lease."""

STUTTERS = 5
STUTTER_SECONDS = (0.2, 3.0)
BREATH_SECONDS = (0.02, 0.6)
"""Pauses in a row, and the moments between them, in which some leases are renewed and others are not."""

ODD_SHARE, ODD_SECONDS = 0.3, 6.0
"""How many replies are valid JSON that is hard to store or to judge, and for how long."""

GREEDY_SECONDS = 6.0
"""How long a second tenant floods the system."""

FLOODED_SECONDS = 2.0
"""After so long the first tenant's jobs are handed in beside it."""

WATCHDOG_SECONDS = 4
"""How long a loop may stand still here: less than a lease lasts, as with the defaults."""

POLL_SECONDS = 0.02
DEEP_MESSAGES = 40
DEEP_SECONDS = 2.5
"""How many messages are to lie in Redis when they are lost, and how long the workers are paused for it: well below
what a lease has left after its last heartbeat."""

HELD_BY = "SELECT id, fence FROM jobs WHERE state = 'running' AND holder LIKE %s"
STILL_HELD = """
SELECT count(*) FROM jobs j JOIN unnest(%s::text[], %s::bigint[]) AS g (id, fence) ON j.id = g.id
WHERE j.state = 'running' AND j.fence = g.fence
"""
"""Those that nobody has given back yet, to their lanes or to be tried alone."""

IN_THEIR_LANES = """
SELECT count(*) FROM jobs j JOIN unnest(%s::text[], %s::bigint[]) AS g (id, fence) ON j.id = g.id
WHERE j.state = 'running' AND j.fence = g.fence OR j.state = 'queued' AND j.fence <= g.fence + 1 AND j.deaths < 2
"""
"""Those that are still held so, or wait for their turn. A low job waits for whatever is more urgent, as ever."""

TAKEN_OVER = """
SELECT count(*) FROM jobs j JOIN unnest(%s::text[], %s::bigint[]) AS g (id, fence) ON j.id = g.id
WHERE j.state = 'running' AND j.fence > g.fence
"""
UNHEARD = "SELECT count(*) FROM jobs WHERE state = 'queued' AND dispatched_at <= %s"
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
    turns: list[Stall] = field(default_factory=list)
    longest_turn: float = 0.0
    """Until a job had its turn in its lane: one that was given back after a death, or a low one beside a flood."""
    messages_lost: int = 0
    messages_doubled: int = 0
    taken_over: int = 0
    """Jobs that a successor was running when their paused holder came back."""
    messages_gone: int = 0
    """Callers' messages that neither the broker nor Postgres had when a worker was killed that took some in."""
    odd_replies: int = 0
    greedy: GreedyTenant | None = None
    _losing: dict[int, float] = field(default_factory=dict)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def deck(self) -> Iterator[str]:
        """Every kind once in a random order, and again and again."""
        kinds = list(self.KINDS)
        while True:
            self.chance.shuffle(kinds)
            yield from kinds

    def bring(self, kind: str) -> None:
        self.done.append(kind)
        self.KINDS[kind](self)

    def look(self) -> None:
        """End what is due, start again what has ended, and see what has recovered. Called several times a second."""
        now = time.monotonic()
        due = [step for at, step in self._later if at <= now]
        self._later = [(at, step) for at, step in self._later if at > now]
        for step in due:
            step()
        self._note_losses(now)
        self.site.revive()
        self._see_recoveries(now)

    @property
    def quiet(self) -> bool:
        """Whether everything that was broken is whole again."""
        return not self._later and not self.stalls

    def _kill(self, name: str) -> None:
        pid = self.site.pid(name)
        self.site.kill(name)
        self._orphaned(pid, "web killed" if name == "web" else "worker killed")

    def _pause(self, name: str) -> None:
        self.site.pause(name)
        seconds = self._past_lease()
        self._after(seconds, lambda: self.site.resume(name))
        self._losing_until(self.site.pid(name), seconds)
        self._orphaned(self.site.pid(name), "worker paused")

    def _stutter(self, name: str) -> None:
        """Several pauses in a row, of which none alone outlasts a lease."""
        self._orphaned(self.site.pid(name), "worker stuttered")
        at = 0.0
        for _ in range(STUTTERS):
            self._after(at, lambda: self.site.pause(name))
            at += self.chance.uniform(*STUTTER_SECONDS)
            self._after(at, lambda: self.site.resume(name))
            at += self.chance.uniform(*BREATH_SECONDS)
        self._losing_until(self.site.pid(name), at)

    def _come_back(self) -> None:
        """Pause the worker that holds most, and wake it at the moment at which successors run its jobs."""
        with psycopg.connect(self.site.database_url, autocommit=True) as connection:
            name = max(WORKERS, key=lambda name: len(self._held_by(connection, self.site.pid(name))))
            pid, since = self.site.pid(name), time.monotonic()
            self.site.pause(name)
            held = self._held_by(connection, pid)
            self.orphans.update(job_id for job_id, _ in held)
            parameters = [[job_id for job_id, _ in held], [fence for _, fence in held]]
            self._losing_until(pid, self.lease_seconds)
            while time.monotonic() < since + 2 * self.lease_seconds:
                row = connection.execute(TAKEN_OVER, parameters).fetchone()
                if row is not None and row[0] > 0:
                    self.taken_over += row[0]
                    break
                time.sleep(POLL_SECONDS)
            self.site.resume(name)

    def _kill_at_intake(self) -> None:
        """Kill a worker while it and its neighbours have callers' messages in their hands."""
        taker = self.chance.choice([name for name in WORKERS if name.startswith("standard")])
        self.messages_gone += gone_with_a_worker(
            self.site.database_url, self.site.redis_url, tag=str(len(self.done)), kill=lambda: self._kill(taker)
        )

    def _drain(self, name: str) -> None:
        pid = self.site.pid(name)
        self.site.terminate(name)
        self._losing_until(pid, self.lease_seconds)
        self._note_losses(time.monotonic())

    def _freeze(self, name: str) -> None:
        self.site.pause(name)
        seconds = self._past_lease()
        self._after(seconds, lambda: self.site.resume(name))
        self._after(seconds + RENEWAL_SECONDS, _guard)

    def _cut_worker(self) -> None:
        self._losing_until(self.site.pid(LINKED[0]), self._break(LINKED[0]))
        self._orphaned(self.site.pid(LINKED[0]), "worker cut off")

    def _cut_upkeep(self) -> None:
        self._after(self._break("upkeep-1") + RENEWAL_SECONDS, _guard)

    def _break(self, name: str) -> float:
        links, seconds = self.site.links[name], self._past_lease()
        way = self.chance.choice(("cut", "hold"))
        for link in links:
            getattr(link, way)()
        self._after(seconds, lambda: _patched(links))
        return seconds

    def _slow(self) -> None:
        links = [link for pair in self.site.links.values() for link in pair]
        for link in links:
            link.slow()
        self._after(self.lease_seconds, lambda: _patched(links))

    def _wipe(self) -> None:
        """Wipe Redis while messages lie in it that nobody has taken."""
        with self._deep_queues() as client:
            self.messages_lost += _depth(client)
            client.flushall()
        self._all_heard_after("redis wiped")

    def _lose(self) -> None:
        """Take messages out of their queues and lose them, as a consumer does that dies between BRPOP and its note."""
        with self._deep_queues() as client:
            for lane in Lane:
                lost = client.rpop(lane.queue, max(1, client.llen(lane.queue) // 2)) or []
                self.messages_lost += len(lost)
        self._all_heard_after("messages lost")

    @contextmanager
    def _deep_queues(self) -> Iterator[redis.Redis]:
        """Pause the workers until messages lie in Redis; they go on afterwards, with their leases."""
        give_up_at = time.monotonic() + DEEP_SECONDS
        for name in WORKERS:
            self.site.pause(name)
        try:
            with redis.Redis.from_url(self.site.redis_url) as client:
                while _depth(client) < DEEP_MESSAGES and time.monotonic() < give_up_at:
                    time.sleep(POLL_SECONDS)
                yield client
        finally:
            for name in WORKERS:
                self.site.resume(name)

    def _all_heard_after(self, kind: str) -> None:
        """Wait until every job whose message may have been lost by now is held, or published again."""
        with psycopg.connect(self.site.database_url) as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()

        def over(connection: psycopg.Connection) -> bool:
            unheard = connection.execute(UNHEARD, row).fetchone()
            return unheard is not None and unheard[0] == 0

        self.stalls.append(Stall(kind=kind, since=time.monotonic(), over=over))

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

        self._after(self._past_lease(), resume)

    def _double(self) -> None:
        with psycopg.connect(self.site.database_url) as connection:
            rows = connection.execute(
                "SELECT id, generation, lane FROM jobs WHERE state IN ('queued', 'running') LIMIT %s",
                [DUPLICATES],
            ).fetchall()
        self.messages_doubled += len(rows)
        app = celery_app(self.site.redis_url)
        for job_id, generation, lane in rows:
            body = message([Published(job_id=JobId(job_id), generation=generation)])
            app.send_task(RUN_TASK, args=[body], queue=Lane(lane).queue, ignore_result=True, retry=False)
        app.close()

    def _answer_oddly(self) -> None:
        """Have the provider answer for a while with what cannot be stored as it comes."""
        self.site.provider.set_scenarios(SCENARIOS | {"odd_reply": ODD_SHARE})

        def sober() -> None:
            self.site.provider.set_scenarios(SCENARIOS)
            self.odd_replies = self.site.provider.meter()["scenarios"].get("odd_reply", 0)

        self._after(ODD_SECONDS, sober)

    def _hang(self, name: str) -> None:
        """Hang a process for good: its watchdog has to end it, and `site.revive` is the supervisor."""
        pid, since = self.site.pid(name), time.monotonic()
        self.site.hang(name)
        self._losing_until(pid, WATCHDOG_SECONDS)
        self._orphaned(pid, "hung loop")
        self.stalls.append(Stall(kind="hung loop", since=since, over=lambda _: self.site.pid(name) != pid))
        if name.startswith("upkeep"):
            self._after(WATCHDOG_SECONDS + RENEWAL_SECONDS, _guard)

    def _flood(self) -> None:
        """Let a second tenant take what it can get; the first one's jobs must end as soon as ever."""
        if self.greedy is None:
            self.greedy = GreedyTenant.of(self.site.api)
        self.greedy.start()
        self._after(FLOODED_SECONDS, self._hand_in_beside)
        self._after(GREEDY_SECONDS, self.greedy.stop)

    def _hand_in_beside(self) -> None:
        over, low_over = handed_in_beside(self.site.api)
        self.stalls.append(Stall(kind="greedy tenant", since=time.monotonic(), over=over))
        self.turns.append(Stall(kind="greedy tenant", since=time.monotonic(), over=low_over))

    def _past_lease(self) -> float:
        return self.lease_seconds + self.chance.uniform(*AFTER_LEASE_SECONDS)

    def _losing_until(self, pid: int, seconds: float) -> None:
        """Whatever this process is seen to hold for so long is in flight at a fault."""
        self._losing[pid] = time.monotonic() + seconds

    def _note_losses(self, now: float) -> None:
        if not self._losing:
            return
        with suppress(psycopg.OperationalError), psycopg.connect(self.site.database_url) as connection:
            for pid in tuple(self._losing):
                self.orphans.update(job_id for job_id, _ in self._held_by(connection, pid))
                if self._losing[pid] < now:
                    del self._losing[pid]

    def _held_by(self, connection: psycopg.Connection, pid: int) -> list[tuple[str, int]]:
        return connection.execute(HELD_BY, [f"%:{pid}:%"]).fetchall()

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, step))

    def _orphaned(self, pid: int, kind: str) -> None:
        """Remember the jobs that this process held; wait until all are given back and others have come to rest."""
        since = time.monotonic()
        with psycopg.connect(self.site.database_url) as connection:
            held = self._held_by(connection, pid)
        given = [[row[0] for row in held], [row[1] for row in held]]
        self.orphans.update(given[0])

        def none_of(query: str) -> Callable[[psycopg.Connection], bool]:
            def over(connection: psycopg.Connection) -> bool:
                row = connection.execute(query, given).fetchone()
                return row is not None and row[0] == 0

            return over

        if held:
            self.stalls.append(Stall(kind=kind, since=since, over=none_of(STILL_HELD)))
            self.turns.append(Stall(kind=kind, since=since, over=none_of(IN_THEIR_LANES)))
            self._progress_after(kind)

    def _progress_after(self, kind: str) -> None:
        """Wait until another job has come to rest than those that had by now."""
        first: list[int] = []

        def over(connection: psycopg.Connection) -> bool:
            row = connection.execute(RESTED).fetchone()
            first.append(row[0] if row else 0)
            return first[-1] > first[0]

        self.stalls.append(Stall(kind=kind, since=time.monotonic(), over=over))

    def _see_recoveries(self, now: float) -> None:
        if not self.stalls and not self.turns:
            return
        try:
            with psycopg.connect(self.site.database_url, connect_timeout=1) as connection:
                still = [stall for stall in self.stalls if not stall.over(connection)]
                waiting = [turn for turn in self.turns if not turn.over(connection)]
        except psycopg.OperationalError:
            return
        self.longest_turn = max([self.longest_turn, *(now - turn.since for turn in self.turns if turn not in waiting)])
        self.turns = waiting
        for stall in self.stalls:
            if stall not in still:
                self.longest[stall.kind] = max(self.longest.get(stall.kind, 0.0), now - stall.since)
        self.stalls = still

    KINDS: ClassVar[Mapping[str, Callable[["Faults"], None]]] = {
        "worker killed": lambda self: self._kill(self.chance.choice(WORKERS)),
        "worker paused": lambda self: self._pause(self.chance.choice(WORKERS)),
        "worker stuttered": lambda self: self._stutter(self.chance.choice(WORKERS)),
        "worker taken over": _come_back,
        "worker killed at intake": _kill_at_intake,
        "worker cut off": _cut_worker,
        "worker drained": lambda self: self._drain(self.chance.choice(WORKERS)),
        "upkeep killed": lambda self: self.site.kill(self.chance.choice(("upkeep-1", "upkeep-2"))),
        "upkeep paused": lambda self: self._freeze(self.chance.choice(("upkeep-1", "upkeep-2"))),
        "upkeep cut off": _cut_upkeep,
        "web killed": lambda self: self._kill("web"),
        "redis killed": lambda self: self._end_store(self.site.valkey, "redis killed"),
        "redis wiped": _wipe,
        "redis paused": lambda self: self._pause_store(self.site.valkey, "redis paused"),
        "postgres killed": lambda self: self._end_store(self.site.postgres, "postgres killed"),
        "postgres paused": lambda self: self._pause_store(self.site.postgres, "postgres paused"),
        "network slowed": _slow,
        "messages lost": _lose,
        "messages doubled": _double,
        "odd reply": _answer_oddly,
        "hung loop": lambda self: self._hang(self.chance.choice(PIECES)),
        "greedy tenant": _flood,
    }
    """Every fault by its name."""


def _depth(client: redis.Redis) -> int:
    return sum(client.llen(lane.queue) for lane in Lane)


def _patched(links: Iterable[Link]) -> None:
    for link in links:
        link.patched()


def _signal(parent_pid: int, number: signal.Signals) -> None:
    """Tell a process and its children."""
    pid = str(parent_pid)
    listed = subprocess.run(["ps", "-o", "pid=", "-p", pid, "--ppid", pid], capture_output=True, text=True, check=False)  # noqa: S607 - whichever ps
    for word in listed.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(word), number)


def _guard() -> None:
    """Nothing to do: upkeep that could not look waits so long for the living to renew before it buries anybody, and a
    worker that is lost within that time is another fault on top of this one.
    """
