"""A trial of the money: drivers under budgets that bind, killed at random or robbed of Redis, held against the bill.

The processes are forked from one that has loaded everything, so that a killed driver is replaced in milliseconds.
"""

import asyncio
import multiprocessing
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from typing import Any

import psycopg
import redis

from schemas.ids import AttemptId
from schemas.money import NanoUsd
from stack.children import wait_until
from storage.database.engine import open_engine
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.effective import set_budget
from tests.chaos.balances import Samples, reserved_in, watch
from tests.chaos.drivers import Terms, drive, keep
from tests.chaos.invoice import resolve_by_bill
from tests.chaos.till import bills_of, keep_till

FORKS = multiprocessing.get_context("forkserver")
DRIVERS = 16
SETTLE_SECONDS = 40.0
"""How long leases and reservations may take to run out, and the keeper to reconcile them."""

OUTLIVES_SECONDS = 120.0
"""How much longer than the trial the till stays, whoever forgets it."""

USERS = "SELECT end_user, sum(nano_usd)::bigint FROM ledger GROUP BY end_user"
ATTEMPTS = "SELECT id, state, outcome FROM attempts"
UNKNOWN = "SELECT count(*) FROM attempts WHERE state IN ('opened', 'suspense')"
ALL = "SELECT count(*) FROM attempts"
OPENED = "SELECT count(*) FROM attempts WHERE state = 'opened'"
BUDGETS = {"user": ("day", "America/New_York"), "tenant": ("hour", "Asia/Kolkata"), "global": ("month", "UTC")}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a trial came to. Sums are nano-dollars; `overspent` is the bill beyond the limit, by user."""

    samples: Samples
    kills: int
    wipes: int
    attempts: int
    billed: int
    bill_nano_usd: int
    ledger_nano_usd: int
    settled_nano_usd: int
    reserved_nano_usd: int
    differs: dict[str, int]
    overspent: dict[str, int]
    unopened: int
    unknown: int
    posted_after_suspense: int

    def table(self) -> str:
        """The figures, one a line."""
        lines = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "samples"}
        seen = self.samples
        lines |= {
            "samples": seen.number,
            "samples a second": round(seen.per_second),
            "worst settled + reserved - limit": seen.worst_nano_usd,
            "samples with a counter exactly full": seen.full,
        }
        return "\n".join(f"{name:<34} {value}" for name, value in lines.items())


@dataclass(frozen=True, kw_only=True)
class Limits:
    """In nano-dollars: of each user's day, of the tenant's hour, of everything's month."""

    user: int
    total: int

    @property
    def by_kind(self) -> dict[str, int]:
        return {"user": self.user, "tenant": self.total, "global": self.total}


class Trial:
    """The running processes. Main thread only."""

    def __init__(self, terms: Terms, limits: Limits) -> None:
        self.terms, self.limits = terms, limits
        self.kills = self.wipes = 0
        self._drivers: list[ForkServerProcess] = []
        self._over = FORKS.Event()
        self._told, tell = FORKS.Pipe(duplex=False)
        self._watcher = _started(watch, terms.redis_url, limits.by_kind, self._over, tell)
        self._keeper = _started(keep, terms)
        self._chance = random.Random(1)  # noqa: S311 - who is killed

    def run(self, *, kill_every_seconds: float | None = None, wipe_every_seconds: float | None = None) -> None:
        """Drive until the time is over; the drivers that live then are killed too."""
        self._drivers = [_started(drive, self.terms) for _ in range(DRIVERS)]
        assert wait_until(lambda: self._count(ALL) > 0, seconds=SETTLE_SECONDS)
        ends_at = time.monotonic() + self.terms.seconds
        steps = {
            step: every
            for every, step in ((kill_every_seconds, self._kill_one), (wipe_every_seconds, self._wipe))
            if every
        }
        due = {step: time.monotonic() + every for step, every in steps.items()}
        while time.monotonic() < ends_at:
            step = min(due, key=lambda step: due[step])
            time.sleep(max(0.0, due[step] - time.monotonic()))
            step()
            due[step] = max(due[step] + steps[step], time.monotonic())
        for driver in self._drivers:
            _kill(driver)

    def findings(self) -> Findings:
        """Let everything run out, resolve by the bill what nobody knows, and compare."""
        bills = bills_of(self.terms.till_port)
        wait_until(lambda: self._count(OPENED) == 0, seconds=SETTLE_SECONDS)
        in_suspense = {row[0] for row in self._rows("SELECT id FROM attempts WHERE state = 'suspense'")}
        resolve_by_bill(self.terms.database_url, {attempt_id: cost for attempt_id, (_, cost) in bills.items()})
        wait_until(lambda: reserved_in(self.terms.redis_url, self.limits.by_kind) == 0, seconds=SETTLE_SECONDS)
        self._over.set()
        samples: Samples = self._told.recv()
        return self._compare(bills, in_suspense, samples)

    def end(self) -> None:
        """End every process that is left."""
        self._over.set()
        for process in (*self._drivers, self._keeper, self._watcher):
            _kill(process)

    def _kill_one(self) -> None:
        """A driver with -9, and another in its place; now and then the keeper."""
        self.kills += 1
        if self.kills % 20 == 0:
            _kill(self._keeper)
            self._keeper = _started(keep, self.terms)
            return
        number = self._chance.randrange(DRIVERS)
        _kill(self._drivers[number])
        self._drivers[number] = _started(drive, self.terms)

    def _wipe(self) -> None:
        """What has not been rebuilt yet has nothing to lose; wiped again, it never would be on a slow machine."""
        if not _is_open(self.terms.redis_url):
            return
        self.wipes += 1
        with redis.Redis.from_url(self.terms.redis_url) as client:
            client.flushall()

    def _compare(
        self, bills: dict[AttemptId, tuple[str, NanoUsd]], in_suspense: set[AttemptId], samples: Samples
    ) -> Findings:
        billed: Counter[str] = Counter()
        for user, cost in bills.values():
            billed[user] += cost
        booked = Counter({user: int(total) for user, total in self._rows(USERS)})
        attempts = {row[0]: row[1:] for row in self._rows(ATTEMPTS)}
        with redis.Redis.from_url(self.terms.redis_url) as client:
            settled = sum(int(client.hget(key, "s") or 0) for key in client.keys("*budget:global:*"))
        return Findings(
            samples=samples,
            kills=self.kills,
            wipes=self.wipes,
            attempts=len(attempts),
            billed=len(bills),
            bill_nano_usd=billed.total(),
            ledger_nano_usd=booked.total(),
            settled_nano_usd=settled,
            reserved_nano_usd=reserved_in(self.terms.redis_url, self.limits.by_kind),
            differs={user: booked[user] - billed[user] for user in billed | booked if booked[user] != billed[user]},
            overspent={user: cost - self.limits.user for user, cost in billed.items() if cost > self.limits.user},
            unopened=len(bills.keys() - attempts.keys()),
            unknown=self._count(UNKNOWN),
            posted_after_suspense=sum(
                attempt_id in in_suspense and state == "posted" for attempt_id, (state, _) in attempts.items()
            ),
        )

    def _rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.terms.database_url) as connection:
            return connection.execute(query).fetchall()

    def _count(self, query: str) -> int:
        return int(self._rows(query)[0][0])


@contextmanager
def a_trial(redis_url: str, database_url: str, limits: Limits, **terms: Any) -> Iterator[Trial]:  # noqa: ANN401 - of Terms
    """The till, the keeper and the watcher of a trial over these stores; everything in them is lost."""
    FORKS.set_forkserver_preload(["tests.chaos.drivers", "tests.chaos.balances", "tests.chaos.till"])
    _prepare(database_url, limits)
    with ExitStack() as ends, socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port = listening.getsockname()[1]
        seconds = terms["seconds"] + OUTLIVES_SECONDS
        ends.callback(_kill, _started(keep_till, listening, 1, seconds))
        told = Terms(redis_url=redis_url, database_url=database_url, till_port=port, began=time.monotonic(), **terms)
        trial = Trial(told, limits)
        ends.callback(trial.end)
        assert wait_until(lambda: _is_open(redis_url), seconds=SETTLE_SECONDS)
        trial.terms = replace(told, began=time.monotonic())
        yield trial


def _prepare(database_url: str, limits: Limits) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("TRUNCATE jobs, ledger, attempts CASCADE")

    async def budgets() -> None:
        engine = open_engine(database_url, application="trial")
        for scope, (window, zone) in BUDGETS.items():
            usd = f"{limits.by_kind[scope] / 1e9:.9f}"
            given = {"scope": scope, "window": window, "timezone": zone, "limit_usd": usd}
            await set_budget(ConfigTable(engine), given)
        await engine.dispose()

    asyncio.run(budgets())


def _is_open(redis_url: str) -> bool:
    with redis.Redis.from_url(redis_url) as client:
        return client.get("{penstock}:epoch") is not None


def _started(work: Callable[..., None], *words: object) -> ForkServerProcess:
    process = FORKS.Process(target=work, args=words, daemon=True)
    process.start()
    return process


def _kill(process: ForkServerProcess) -> None:
    process.kill()
    process.join()
