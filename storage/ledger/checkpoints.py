"""Seals the ledger: adds up old entries once, so that rebuild and audit read only new ones.

Entries get ids before they commit, so lower ids may appear later. A mark stores the newest id and a later transaction
number; once all earlier transactions have ended, every entry up to the mark is visible. An entry therefore takes its
number before its id.

Invariant: an entry is in the sealed sums exactly when its id is at most `sealed_to`.
"""

import structlog

from storage.database.engine import StatementFailed
from storage.database.statements import PostgresTable, fetch, run
from storage.ledger.counted_scope import SCOPE_OF_TENANT

log = structlog.get_logger()

MOST_SEALED = 50_000
"""Entries per transaction: a second or two of work."""

MOST_AT_ONCE = 10 * MOST_SEALED
"""Entries per call; other duties wait some seconds at most."""

KEPT_DAYS = 64
"""Twice the longest window; older sums are deleted."""

STAND = """
SELECT sealed_to, marked_to, (SELECT COALESCE(max(id), 0) FROM ledger) AS newest,
    marked_before <= pg_snapshot_xmin(pg_current_snapshot()) AS complete,
    marked_before > pg_snapshot_xmax(pg_current_snapshot()) AS foreign_mark
FROM tenant_ledger_seal FOR UPDATE
"""
"""A mark from the future comes from another cluster, through a dump."""

MARK = "UPDATE tenant_ledger_seal SET marked_to = GREATEST(sealed_to, :newest), marked_before = pg_current_xact_id()"
"""The transaction must see the newest id before it gets its own number."""

SEAL = f"""
WITH booked AS (
    SELECT c.item ->> 1 AS time_window, {SCOPE_OF_TENANT} AS scope, l.nano_usd, l.at
    FROM ledger l JOIN attempts a ON a.id = l.attempt_id CROSS JOIN LATERAL json_array_elements(a.counters) AS c (item)
    WHERE l.id > :after AND l.id <= :up_to
), added AS (
    INSERT INTO tenant_sealed_sums AS s (time_window, scope, long_scope, nano_usd, last_at)
    SELECT time_window,
        CASE WHEN octet_length(scope) > :most_scope_bytes
             THEN 'sha256:' || encode(sha256(convert_to(scope, 'UTF8')), 'hex') ELSE scope END,
        max(CASE WHEN octet_length(scope) > :most_scope_bytes THEN scope END), sum(nano_usd)::bigint, max(at)
    FROM booked GROUP BY 1, 2
    ON CONFLICT (time_window, scope) DO UPDATE
        SET nano_usd = s.nano_usd + EXCLUDED.nano_usd, last_at = GREATEST(s.last_at, EXCLUDED.last_at)
)
UPDATE tenant_ledger_seal SET sealed_to = :up_to
"""  # noqa: S608 - constants inside another

SKIP = "UPDATE tenant_ledger_seal SET sealed_to = :after + 1 WHERE sealed_to = :after RETURNING sealed_to"
"""Skips only the failed entry, and only once among concurrent processes."""

MOST_SCOPE_BYTES = 1_000
"""A longer scope fits no index: its digest is the key, its text a column."""

UNSEALABLE = ("22", "54")
"""SQLSTATE classes of values that cannot be added up: data exceptions, program limits."""

SMALLER = 16
"""Divides the size of a round with such a value."""

FORGET = "DELETE FROM tenant_sealed_sums WHERE last_at < statement_timestamp() - make_interval(days => :days)"


class _UnsealableError(Exception):
    """An entry after `after` cannot be added up."""

    def __init__(self, after: int) -> None:
        super().__init__(after)
        self.after = after


class SealTable(PostgresTable):
    """Stores the progress of sealing."""

    async def seal(self) -> int:
        """Add up to the last mark, or set the next mark; returns how many ids were sealed.

        Entries that cannot be added up are logged and left out. Safe to run concurrently.
        """
        sealed, most, moved = 0, MOST_SEALED, 1
        while moved and sealed < MOST_AT_ONCE:
            try:
                moved = await self._round(most)
            except _UnsealableError as error:
                if most > 1:
                    most = max(1, most // SMALLER)
                    continue
                moved = len(await self._fetch_once(SKIP, after=error.after))
                if moved:
                    log.exception("ledger_entry_not_sealed", sealed_to=error.after + 1)
            sealed += moved
            if moved < most == MOST_SEALED:
                break
            most = min(most * SMALLER, MOST_SEALED)
        return sealed

    async def _round(self, most: int) -> int:
        after: int | None = None
        try:
            async with self._transaction() as connection:
                [stand] = await fetch(connection, STAND, {})
                if not (stand["complete"] or stand["foreign_mark"]):
                    return 0
                after, up_to = int(stand["sealed_to"]), min(stand["marked_to"], stand["sealed_to"] + most)
                if after == up_to or stand["foreign_mark"]:
                    await run(connection, MARK, {"newest": stand["newest"]})
                    await run(connection, FORGET, {"days": KEPT_DAYS})
                    return 0
                await run(connection, SEAL, {"after": after, "up_to": up_to, "most_scope_bytes": MOST_SCOPE_BYTES})
        except StatementFailed as error:
            if after is None or not (error.sqlstate or "").startswith(UNSEALABLE):
                raise
            raise _UnsealableError(after) from error
        return int(up_to) - after
