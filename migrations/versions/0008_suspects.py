"""Finding the jobs that run alone. Expand only: workers of the version before count deaths as ever."""

from alembic import op

revision = "0008"
down_revision = "0007"

CHANGES = """
CREATE INDEX jobs_suspected ON jobs (created_at) WHERE deaths >= 2 AND state IN ('queued', 'waiting');
"""


def upgrade() -> None:
    op.execute(CHANGES)
