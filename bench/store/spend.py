"""Times a spend report by tenant and day over a year of a million ledger entries, on a server of its own.

Run by `python -m bench.store.spend`. Fails where the slowest of five takes longer than a second.
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
from storage.ledger.spend_reports import By, SpendReads

ENTRIES, TENANTS, ROUNDS = 1_000_000, 20, 5
MOST_SECONDS = 1.0
NOW = datetime(2026, 11, 24, tzinfo=UTC)

FILL = """
INSERT INTO ledger (attempt_id, kind, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane, prompt, cause)
SELECT 'att_' || n, 'post', 1000 + n % 977, 'tenant_' || n % :tenants, 'user_' || n % 5000, 'batch_' || n % 300,
    'openai', (ARRAY['gpt-4.1', 'gpt-4.1-mini', 'gpt-5'])[1 + n % 3],
    CAST(:now AS timestamptz) - (n * interval '31.536 seconds'), 'normal', 'prompt_' || n % 40,
    (ARRAY['useful', 'useful', 'useful', 'reprompt', 'truncation'])[1 + n % 5]
FROM generate_series(1, :entries) AS n
"""


async def measured(engine: AsyncEngine) -> float:
    """Fill, ask, print; return the slowest time by tenant and day."""
    async with engine.begin() as connection:
        await connection.execute(text(FILL), {"tenants": TENANTS, "now": NOW, "entries": ENTRIES})
        await connection.execute(text("ANALYZE ledger"))
    slowest: dict[tuple[By, ...], float] = {}
    asked: tuple[tuple[By, ...], ...] = (("tenant", "day"), ("cause",), ("user",), ("model", "lane"), ("batch",))
    for by in asked:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            rows = await SpendReads(engine).report(by, since=NOW - timedelta(days=366), until=NOW)
            slowest[by] = max(slowest.get(by, 0.0), time.perf_counter() - began)
        print(f"by {' and '.join(by):<16} {len(rows):>6} rows  slowest of {ROUNDS}: {slowest[by]:.3f} s")  # noqa: T201
    return slowest["tenant", "day"]


def main() -> int:
    """Measure; return the exit code."""

    async def run(url: str) -> float:
        engine = open_engine(url, application="bench")
        try:
            return await measured(engine)
        finally:
            await engine.dispose()

    with tempfile.TemporaryDirectory() as folder, EmbeddedServers.started(Home(Path(folder))) as servers:
        migrate(servers.postgres.url)
        return int(asyncio.run(run(servers.postgres.url)) > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
