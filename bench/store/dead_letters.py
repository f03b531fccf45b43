"""Times queries over a million dead letters.

Run by `python -m bench.store.dead_letters DATABASE_URL`. Fills an empty database of its own name with a million dead
letters of 200 causes, and runs each query three times; the worst counts. Grouping reads every letter (Parallel Seq Scan
of 55,000 pages, or Parallel Index Only Scan of half as many where most jobs are others), so page reads dominate its
time. "first" comes right after the load: the first reader of a page marks what is committed there, and the marks of
25,000 pages are logged as well. "fresh" is before the table was vacuumed. On two cores that others use too: first 0.65
to 0.83 s, fresh 0.4 s, then 0.4 s.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

import psycopg
from sqlalchemy import text

from schemas.decision import DeadReason
from schemas.replay import DeadLetters
from storage.database.engine import open_engine
from storage.database.schema import migrate
from storage.dead_letters.reads import DeadLetterReads

LETTERS = 1_000_000
CAUSES = 200
TIMES = 3

FILL = f"""
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest,
    dead_reason, fingerprint, cause, message, rested_at, dead_nano_usd, spent_nano_usd)
SELECT 'job_' || md5(n::text), 'default', 'low', 'm' || n % 3, '/', 'dead', now(), 5, 2, md5(n::text),
    CASE WHEN n % 10000 = 0 THEN 'poison' ELSE 'invalid_output' END,
    'invalid_output.' || lpad((n % {CAUSES})::text, 12, '0'), 'price: a string where a number belongs',
    'price: ''12'' is not of type ''number''', now() - n * interval '1 ms', 42, 42
FROM generate_series(1, {LETTERS}) n
"""  # noqa: S608 - constants

QUESTIONS: dict[str, DeadLetters] = {
    "all": DeadLetters(),
    "one cause": DeadLetters(fingerprint="invalid_output.000000000007"),
    "a rare reason": DeadLetters(reason=DeadReason.POISON),
    "a model": DeadLetters(model="m1"),
}


async def measure(url: str) -> None:
    """Print seconds per question."""
    engine = open_engine(url, application="bench")
    reads = DeadLetterReads(engine)
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(text(FILL))
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE jobs"))
    print(f"first: groups {await worst(lambda: reads.groups(DeadLetters()), times=1):.3f} s")  # noqa: T201 - a report
    print(f"fresh: groups {await worst(lambda: reads.groups(DeadLetters())):.3f} s")  # noqa: T201 - the same
    with psycopg.connect(url, autocommit=True) as vacuuming:
        vacuuming.execute("VACUUM ANALYZE jobs")
    print(f"groups {await worst(lambda: reads.groups(DeadLetters())):.3f} s")  # noqa: T201 - the same
    for name, which in QUESTIONS.items():
        listed = await worst(lambda which=which: reads.newest(which))  # type: ignore[misc]  # bound now
        counted = await worst(lambda which=which: reads.count(which))  # type: ignore[misc]  # the same
        print(f"{name}: list {listed:.3f} s, count {counted:.3f} s")  # noqa: T201 - the same
    await engine.dispose()


async def worst(ask: Callable[[], Awaitable[object]], *, times: int = TIMES) -> float:
    """Return the longest time of several runs."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        took.append(time.perf_counter() - began)
    return max(took)


def main() -> None:
    """Create a database, measure, drop it."""
    base, _, _ = sys.argv[1].rpartition("/")
    name = f"bench{uuid.uuid4().hex}"
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        migrate(f"{base}/{name}")
        asyncio.run(measure(f"{base}/{name}"))
    finally:
        with psycopg.connect(sys.argv[1], autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    main()
