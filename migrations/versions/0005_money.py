"""Prompts as a scope, what a budget made of a job, thresholds passed, what a ledger entry was spent on, audits."""

from alembic import op

revision = "0005"
down_revision = "0004"

CHANGES = """
ALTER TABLE jobs ADD prompt text;
ALTER TABLE jobs ADD budget_steps text[] NOT NULL DEFAULT '{}';
CREATE INDEX jobs_same_answer ON jobs (tenant_id, request_digest) WHERE state = 'completed';

ALTER TABLE ledger ADD lane text;
ALTER TABLE ledger ADD prompt text;
ALTER TABLE ledger ADD cause text;

CREATE TABLE budget_thresholds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL,
    time_window text NOT NULL,
    limit_nano_usd bigint NOT NULL,
    percent integer NOT NULL,
    settled_nano_usd bigint NOT NULL,
    full_at timestamptz,
    passed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    sends integer NOT NULL DEFAULT 0,
    send_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (scope, time_window, limit_nano_usd, percent)
);
CREATE INDEX budget_thresholds_to_send ON budget_thresholds (send_at) WHERE delivered_at IS NULL;

CREATE TABLE money_counts (name text PRIMARY KEY, number bigint NOT NULL);
"""


def upgrade() -> None:
    op.execute(CHANGES)
