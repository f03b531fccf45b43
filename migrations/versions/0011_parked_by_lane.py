"""How many jobs are parked in a lane for a model, and for what, counted without reading their rows."""

from alembic import op

revision = "0011"
down_revision = "0010"

CHANGES = "CREATE INDEX jobs_parked ON jobs (lane, model, wait_reason) WHERE state = 'waiting'"


def upgrade() -> None:
    op.execute(CHANGES)
