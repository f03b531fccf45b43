"""What operators and callers need to know: discarded dead letters, what the file said, where to reply."""

from alembic import op

revision = "0002"
down_revision = "0001"

CHANGES = """
ALTER TABLE jobs ADD discarded_at timestamptz;
ALTER TABLE effective_config ADD file_value json;
ALTER TABLE pending_results ADD reply_to text;
CREATE INDEX pending_results_to_notice ON pending_results (job_id) WHERE NOT ready AND delivered_at IS NULL;
CREATE INDEX ledger_since ON ledger USING brin (at);
CREATE INDEX jobs_dead_by_reason ON jobs (dead_reason, model) WHERE state = 'dead' AND discarded_at IS NULL;
"""


def upgrade() -> None:
    op.execute(CHANGES)
