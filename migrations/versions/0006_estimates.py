"""What was learned about the size of prompts."""

from alembic import op

revision = "0006"
down_revision = "0005"

CHANGES = """
SELECT 1;
"""


def upgrade() -> None:
    op.execute(CHANGES)
