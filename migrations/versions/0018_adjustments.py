"""What operators booked by an invoice, and why. Expand only: the version before writes no adjustments."""

from alembic import op

revision = "0018"
down_revision = "0017"

CHANGES = """
CREATE TABLE ledger_adjustments (
    key text PRIMARY KEY,
    attempt_id text NOT NULL,
    seq integer NOT NULL,
    nano_usd bigint NOT NULL,
    note text NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


def upgrade() -> None:
    op.execute(CHANGES)
