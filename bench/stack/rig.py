"""Runs a stack to measure, with a provider per model and a backlog filled by SQL.

Work is counted in ledger entries above an id, one per answered job, so that no count reads the backlog.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psycopg

from admission.connect import connected
from bench.cpu import resident_bytes
from bench.gate.caller import Caller
from bench.provider import provider
from bench.stack.overhead import is_worker
from schemas.admission import Penalty
from schemas.errors import PenstockError
from schemas.job import Target
from schemas.jsons import JsonObject, dumps
from stack.children import wait_until
from stack.process import RunningStack, running_stack
from stack.status import read_status

LOOK_SECONDS = 0.25
QUIET_SECONDS = 120.0
"""Time for work in progress to end; then the benchmark gives up."""

FILL = """
WITH numbered AS (SELECT n, format('job_%%s_%%s', %(tag)s::text, lpad(n::text, 9, '0')) AS id
                  FROM generate_series(1, %(jobs)s::int) n),
stored AS (
    INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts,
        request_digest, work_tokens)
    SELECT id, 'default', 'low', %(model)s, '/v1/chat/completions', 'queued', now() + interval '1 day', 5, 2,
        md5(id) || md5(id || 'digest'), 32
    FROM numbered
)
INSERT INTO job_bodies (job_id, body)
SELECT id, json_build_object('model', %(model)s::text, 'max_completion_tokens', 16, 'messages',
    json_build_array(json_build_object('role', 'user', 'content', 'Say something about number ' || n || '.')))
FROM numbered
"""
ANSWERED = "SELECT count(*) FROM ledger WHERE id > %(since)s AND kind = 'post' AND model = %(model)s AND lane = 'low'"
LAST_ENTRY = "SELECT COALESCE(max(id), 0) FROM ledger"
AT_WORK = "SELECT EXISTS (SELECT 1 FROM jobs WHERE lease_until IS NOT NULL)"
LEFT = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state IN ('queued', 'running', 'waiting') AND lane = 'low')"
HELD = "SELECT model, count(*) FROM jobs WHERE lease_until IS NOT NULL GROUP BY model"


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """One model and the provider that serves only it. 0 is no limit."""

    model: str
    requests_per_minute: int
    provider_words: tuple[str, ...]

    def config(self, base_url: str) -> str:
        """Return its part of `penstock.toml`."""
        told = self.requests_per_minute or 6_000_000
        return (
            f'[providers.{self.account}]\nbase_url = "{base_url}"\napi_key_env = "OPENAI_API_KEY"\n'
            f'[models."{self.model}"]\nprovider = "{self.account}"\n'
            f"requests_per_minute = {told}\ntokens_per_minute = 200000000000\n"
        )

    @property
    def account(self) -> str:
        """The provider account's name."""
        return self.model.replace(".", "_").replace("-", "_")

    @property
    def target(self) -> Target:
        """The target's name at the gate."""
        return Target(account=self.account, model=self.model)


class Rig:
    """A running stack with access to its stores."""

    def __init__(self, home: Path, stack: RunningStack, database: psycopg.Connection[Any]) -> None:
        self.stack = stack
        self._home, self._database, self._redis_url = home, database, stack.connection.redis_url
        self._fills = 0

    def ask(self, query: str, **terms: object) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows, if it has any."""
        cursor = self._database.execute(query, terms)
        return cursor.fetchall() if cursor.description else []

    def fill(self, model: str, jobs: int) -> None:
        """Queue this many runnable low jobs."""
        if jobs > 0:
            self._fills += 1
            self.ask(FILL, tag=f"bench{self._fills:05}", model=model, jobs=jobs)

    def tidy(self) -> None:
        """Vacuum and checkpoint now, which the server would do minutes after a large load, during the measurement."""
        self.ask("VACUUM (ANALYZE) jobs, job_bodies")
        self.ask("CHECKPOINT")

    def answered(self, model: str, since: int) -> int:
        """Count low jobs of a model that were answered after this ledger entry."""
        return int(self.ask(ANSWERED, model=model, since=since)[0][0])

    def last_entry(self) -> int:
        """Return the id of the newest ledger entry."""
        return int(self.ask(LAST_ENTRY)[0][0])

    def pause(self, model: str) -> None:
        """Start no more jobs of a model."""
        asyncio.run(_posted(self.stack, "/controls/pause", {"kind": "model", "name": model}))

    def resume(self, model: str) -> None:
        """Start jobs of a model again."""
        asyncio.run(_posted(self.stack, "/controls/resume", {"kind": "model", "name": model}))

    def wait_idle(self, *, empty: bool) -> None:
        """Wait until nothing runs and, if `empty`, no jobs are left. Raises PenstockError."""
        query = LEFT if empty else AT_WORK
        if not wait_until(lambda: _after_a_look(not self.ask(query)[0][0]), seconds=QUIET_SECONDS):
            raise PenstockError("the work under way did not end")

    def held(self) -> dict[str, int]:
        """Count claimed jobs by model."""
        return {model: int(jobs) for model, jobs in self.ask(HELD)}

    def redis_bytes(self) -> int:
        """Return the memory that Redis uses."""
        return asyncio.run(_redis_bytes(self._redis_url))

    def freeze(self, target: Target, seconds: float) -> None:
        """Penalise a target as a worker does after a 429 with this retry-after."""
        asyncio.run(_freeze(self._redis_url, target, seconds))

    def worker_bytes(self) -> int:
        """Return the resident memory of all worker processes."""
        status = read_status(self._home)
        processes = status.processes if status else ()
        return sum(resident_bytes(one.pid) for one in processes if one.pid is not None and is_worker(one.name))


def _after_a_look(found: bool) -> bool:  # noqa: FBT001 - the answer that is passed on
    time.sleep(LOOK_SECONDS)
    return found


async def _posted(stack: RunningStack, path: str, body: JsonObject) -> None:
    caller = Caller("127.0.0.1", stack.port, path=path, key=stack.key)
    answer = await caller.post(dumps(body))
    await caller.aclose()
    if answer.status != HTTPStatus.OK:
        raise PenstockError(f"{path} was answered with status {answer.status}")


async def _redis_bytes(redis_url: str) -> int:
    async with connected(redis_url) as room:
        told = await room.wire.command("INFO", "memory")
    return int(told["used_memory"])


async def _freeze(redis_url: str, target: Target, seconds: float) -> None:
    async with connected(redis_url) as room:
        await room.gate.penalize(target, Penalty(wait_ms=round(seconds * 1_000)))


@contextmanager
def opened_rig(
    home: Path, env: Mapping[str, str], upstreams: Sequence[Upstream], *, workers: int, slots: int
) -> Iterator[Rig]:
    """Start providers and a stack, and end them. Raises PenstockError when something does not start."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "bench.toml"
    with ExitStack() as endings:
        ports = [endings.enter_context(provider(_words(upstream), env)) for upstream in upstreams]
        urls = [f"http://127.0.0.1:{port}/v1" for port in ports]
        config.write_text("".join(each.config(url) for each, url in zip(upstreams, urls, strict=True)))
        ours = dict(env) | {
            "PENSTOCK_CONFIG": str(config.absolute()),
            "PENSTOCK_SLOTS": str(slots),
            "PENSTOCK_ENV": "production",
            "FLOWER_BASIC_AUTH": "bench:bench",
            "OPENAI_BASE_URL": urls[0],
            "OPENAI_API_KEY": "bench",
        }
        stack = endings.enter_context(running_stack(home / "stack", ours, workers=workers))
        database = endings.enter_context(psycopg.connect(stack.connection.database_url, autocommit=True))
        yield Rig(home / "stack", stack, database)


def _words(upstream: Upstream) -> list[str]:
    limits = ["--requests-per-minute", str(upstream.requests_per_minute), "--tokens-per-minute", "0"]
    return [*upstream.provider_words, *limits]
