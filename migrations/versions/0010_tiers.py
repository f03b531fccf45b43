"""Which service tier answered an attempt, and by that what each ledger entry was spent at."""

from alembic import op

revision = "0010"
down_revision = "0009"

CHANGES = """
ALTER TABLE attempts ADD tier text;
ALTER TABLE ledger ADD tier text;
"""


def upgrade() -> None:
    op.execute(CHANGES)
