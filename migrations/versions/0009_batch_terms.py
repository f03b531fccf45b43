"""When a batch stops itself: its cost, its errors, its canary, and what came of it."""

from alembic import op

revision = "0009"
down_revision = "0008"

CHANGES = """
ALTER TABLE batches ADD max_cost_nano_usd bigint;
ALTER TABLE batches ADD max_error_rate double precision;
ALTER TABLE batches ADD canary integer;
ALTER TABLE batches ADD phase text;
ALTER TABLE batches ADD projected_nano_usd bigint;
ALTER TABLE batches ADD stopped text;
CREATE INDEX batches_with_stop_loss ON batches (created_at)
    WHERE status = 'in_progress' AND phase IN ('canary', 'held', 'releasing', 'watched');
"""


def upgrade() -> None:
    op.execute(CHANGES)
