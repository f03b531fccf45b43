"""Times audit and rebuild of a month of a million attempts, sealed and unsealed.

Run by `python -m bench.store.reconciliation [ATTEMPTS]`, on servers of its own. Both are timed in one run. Fails where
either takes sealed more than a tenth of its unsealed time.
"""

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from stack.home import Home
from stack.servers import EmbeddedServers
from storage.database.engine import open_engine
from storage.database.schema import migrate
from storage.ledger.checkpoints import SealTable
from storage.ledger.ledger import LedgerTable

ATTEMPTS, TENANTS, USERS, ROUNDS = 1_000_000, 20, 5_000, 3
MOST_PART = 0.1
WINDOWS = ("2026-11@UTC", "2026-11-24@UTC")

FILL = (
    """
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest,
    work_tokens)
VALUES ('job_1', 'default', 'low', 'm', '/v1/chat/completions', 'completed', now(), 5, 2, 'd', 1)
""",
    """
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd,
    price, state, outcome, opened_at)
SELECT 'att_' || n, 'job_1', 1, 'openai', 'm', 1, 'att_' || n, json_build_array(
        json_build_array('global', '2026-11@UTC', 1000000000000), json_build_array('tenant:t' || n % :tenants,
        '2026-11-24@UTC', 1000000000000), json_build_array('user:u' || n % :users, '2026-11@UTC', 1000000000000),
        json_build_array('user:u' || n % :users, '2026-11-24@UTC', 1000000000000)),
    100, 500, '{}', 'posted', 'valid', now()
FROM generate_series(1, :attempts) AS n
""",
    """
INSERT INTO ledger (attempt_id, kind, nano_usd, tenant_id, account, model, at)
SELECT 'att_' || n, 'post', 1000 + n % 977, 'default', 'openai', 'm', now() - n * interval '1 second'
FROM generate_series(1, :attempts) AS n
""",
    "ANALYZE jobs, attempts, ledger",
)


async def fill(engine: AsyncEngine, attempts: int) -> None:
    """Insert posted attempts that count in four budgets each."""
    terms = {"attempts": attempts, "tenants": TENANTS, "users": USERS}
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in FILL:
            await connection.execute(text(statement), terms if ":" in statement.replace("':'", "") else {})


async def seal(engine: AsyncEngine) -> float:
    """Seal everything; return seconds."""
    began, quiet = time.perf_counter(), 0
    while quiet < 2:  # one round marks, the next finds nothing above the mark
        quiet = 0 if await SealTable(engine).seal() else quiet + 1
    return time.perf_counter() - began


async def timed(engine: AsyncEngine) -> dict[str, float]:
    """Return the best time of each over some rounds, in seconds."""
    table, now, best = LedgerTable(engine), datetime.now(UTC), dict[str, float]()
    for _ in range(ROUNDS):
        for name, work in (
            ("audit", lambda: table.audited([], windows=WINDOWS, since=now - timedelta(days=32), before=now)),
            ("rebuild", lambda: table.rebuild(now - timedelta(days=32))),
        ):
            began = time.perf_counter()
            await work()
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - began)
    return best


async def measured(engine: AsyncEngine, attempts: int) -> float:
    """Fill, time, seal, time, print; return the larger of the sealed-to-unsealed ratios."""
    await fill(engine, attempts)
    before = await timed(engine)
    seconds = await seal(engine)
    after = await timed(engine)
    print(f"{attempts:,} attempts in four budgets each; sealing them all took {seconds:.1f} s")  # noqa: T201
    for name, unsealed in before.items():
        part = after[name] / unsealed
        print(f"{name:<8} unsealed {unsealed:.3f} s  sealed {after[name]:.3f} s  {part:.4f} of it")  # noqa: T201
    return max(after[name] / unsealed for name, unsealed in before.items())


def main() -> int:
    """Measure; return the exit code."""
    attempts = int(sys.argv[1]) if len(sys.argv) > 1 else ATTEMPTS

    async def run(url: str) -> float:
        engine = open_engine(url, application="bench")
        try:
            return await measured(engine, attempts)
        finally:
            await engine.dispose()

    with tempfile.TemporaryDirectory() as folder, EmbeddedServers.started(Home(Path(folder))) as servers:
        migrate(servers.postgres.url)
        return int(asyncio.run(run(servers.postgres.url)) > MOST_PART)


if __name__ == "__main__":
    sys.exit(main())
