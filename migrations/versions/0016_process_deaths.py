"""Dead processes and the jobs that they worked on. Expand only: the version before counts deaths as ever."""

from alembic import op

revision = "0016"
down_revision = "0015"

CHANGES = """
CREATE TABLE process_deaths (
    holder text PRIMARY KEY,
    job_id text,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


def upgrade() -> None:
    op.execute(CHANGES)
