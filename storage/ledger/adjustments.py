"""Books what an invoice says of a resolved charge, as ledger entries of the kind `adjust`.

Invariants: an adjustment is booked once by its key, in one transaction with its ledger entry. The entries of an attempt
never sum to less than zero.
"""

from dataclasses import dataclass
from datetime import datetime

from schemas.attempt import AttemptState
from schemas.ids import AttemptId
from schemas.money import NanoUsd
from storage.database.mapping import read_as, values_of
from storage.database.statements import PostgresTable, Row, fetch, run
from storage.ledger.resolutions import LOCK_JOB

ADJUST = """
WITH charge AS (
    SELECT a.id, a.job_id, a.account, a.model, a.tier,
        (SELECT COALESCE(max(seq) + 1, 0) FROM ledger WHERE attempt_id = a.id AND kind = 'adjust') AS seq,
        (SELECT cause FROM ledger WHERE attempt_id = a.id ORDER BY id LIMIT 1) AS cause
    FROM attempts a
    WHERE a.id = :id AND a.state IN ('posted', 'released')
      AND (SELECT COALESCE(sum(nano_usd), 0) FROM ledger WHERE attempt_id = a.id) + :nano_usd >= 0
), adjustment AS (
    INSERT INTO ledger_adjustments (key, attempt_id, seq, nano_usd, note)
    SELECT :key, c.id, c.seq, :nano_usd, :note FROM charge c
    ON CONFLICT (key) DO NOTHING
    RETURNING attempt_id, seq, nano_usd, booked_at
), entry AS (
    INSERT INTO ledger (attempt_id, kind, seq, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane,
        prompt, tier, cause)
    SELECT c.id, 'adjust', n.seq, n.nano_usd, j.tenant_id, j.end_user, j.batch_id, c.account, c.model, n.booked_at,
        j.lane, j.prompt, c.tier, c.cause
    FROM adjustment n JOIN charge c ON c.id = n.attempt_id JOIN jobs j ON j.id = c.job_id
)
UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + n.nano_usd
FROM adjustment n JOIN charge c ON c.id = n.attempt_id WHERE j.id = c.job_id
"""

STANDS = """
SELECT a.state, (SELECT COALESCE(sum(nano_usd), 0)::bigint FROM ledger WHERE attempt_id = a.id) AS booked_nano_usd,
    n.key, n.attempt_id, n.nano_usd, n.note, n.booked_at
FROM attempts a LEFT JOIN ledger_adjustments n ON n.key = :key WHERE a.id = :id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adjustment:
    """A correction of an attempt's charge, negative or not. `key` names it, so that it is booked once."""

    key: str
    attempt_id: AttemptId
    nano_usd: NanoUsd
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AdjustedCharge:
    """An attempt and the sum of its entries. `adjustment` is what the key names: None where it was not booked."""

    state: AttemptState
    booked_nano_usd: NanoUsd
    adjustment: Adjustment | None
    booked_at: datetime | None


class AdjustmentTable(PostgresTable):
    """Adjustments of resolved charges."""

    async def book(self, adjustment: Adjustment) -> AdjustedCharge | None:
        """Book it, unless its key was used, the charge is unresolved, or less than it takes away was booked.

        Returns the charge as it is then, None where there is no such attempt. Safe to call twice.
        """
        terms = values_of(adjustment) | {"id": adjustment.attempt_id}
        async with self._transaction() as connection:
            await run(connection, LOCK_JOB, terms)  # jobs before attempts, as everywhere
            await run(connection, ADJUST, terms)
            rows = await fetch(connection, STANDS, terms)
        return _charge(rows[0]) if rows else None


def _charge(row: Row) -> AdjustedCharge:
    return read_as(AdjustedCharge, row, adjustment=None if row["key"] is None else read_as(Adjustment, row))
