"""Since when a job has been waiting for a limit: it keeps its ticket and its age while it is parked."""

from alembic import op

revision = "0007"
down_revision = "0006"

CHANGES = """
ALTER TABLE jobs ADD waiting_since timestamptz;
"""


def upgrade() -> None:
    op.execute(CHANGES)
