"""Sums of the ledger's older entries by scope and window, so that no balance is ever added up from the beginning."""

from alembic import op

revision = "0012"
down_revision = "0011"

TABLES = """
CREATE TABLE sealed_sums (
    time_window text NOT NULL,
    scope text NOT NULL,
    nano_usd bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (time_window, scope)
);

CREATE TABLE ledger_seal (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    sealed_to bigint NOT NULL,
    marked_to bigint NOT NULL,
    marked_before xid8 NOT NULL
);
INSERT INTO ledger_seal (sealed_to, marked_to, marked_before) VALUES (0, 0, '0');
"""


def upgrade() -> None:
    op.execute(TABLES)
