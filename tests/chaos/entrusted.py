"""Messages that callers entrust to a worker which is killed while it takes them in.

The message is all that there is of such a job. So until its row is committed it must be with the broker: in its queue,
or noted there as not acknowledged. Whether it is is seen at the moment of the kill, because later the callers of this
campaign send again, as callers must, and nobody could tell.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg
import redis

from schemas.lanes import Lane
from tasks.dispatch.celery_app import celery_app
from tests.chaos.load import message_body
from workers.tasks import SUBMIT_TASK

MESSAGES = 10
TAKEN_SECONDS = 2.0
"""How long workers may take to take them and to note that at the broker; leases outlast it."""

POLL_SECONDS = 0.02
HOLD_UP = "LOCK TABLE jobs IN SHARE MODE"
HELD_UP = "SELECT count(*) FROM pg_locks WHERE relation = 'jobs'::regclass AND NOT granted"
KNOWN = "SELECT idempotency_key FROM jobs WHERE idempotency_key = ANY(%s)"


def gone_with_a_worker(database_url: str, redis_url: str, *, tag: str, kill: Callable[[], None]) -> int:
    """Entrust messages, hold up their insertion, `kill` a worker that takes them; returns how many nobody has then."""
    keys = [f"entrusted-{tag}-{number}" for number in range(MESSAGES)]
    with (
        closing(celery_app(redis_url)) as app,
        redis.Redis.from_url(redis_url) as broker,
        psycopg.connect(database_url, autocommit=True) as watcher,
    ):
        with psycopg.connect(database_url) as holding:
            holding.execute(HOLD_UP)
            _send(app, keys)
            give_up_at = time.monotonic() + TAKEN_SECONDS
            while time.monotonic() < give_up_at and not (
                broker.llen(Lane.NORMAL.queue) == 0 and _held_up(watcher) and not _without(broker, keys)
            ):
                time.sleep(POLL_SECONDS)
            kill()
            gone = _without(broker, keys)
        gone -= {key for (key,) in watcher.execute(KNOWN, [keys]).fetchall()}
        _send(app, keys)
    return len(gone)


def _without(broker: "redis.Redis", keys: Sequence[str]) -> set[str]:
    """Those that are neither in their queue nor noted as taken."""
    there = b"".join([*broker.hvals("unacked"), *broker.lrange(Lane.NORMAL.queue, 0, -1)]).decode()
    return {key for key in keys if f'"{key}"' not in there}


def _held_up(watcher: psycopg.Connection) -> bool:
    row = watcher.execute(HELD_UP).fetchone()
    return row is not None and row[0] > 0


def _send(app: object, keys: Sequence[str]) -> None:
    for number, key in enumerate(keys):
        app.send_task(  # type: ignore[attr-defined]  # Celery ships no types
            SUBMIT_TASK,
            args=[message_body(number)],
            task_id=key,
            queue=Lane.NORMAL.queue,
            ignore_result=True,
            retry=False,
        )
