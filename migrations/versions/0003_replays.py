"""Replays as resumable objects, and the fingerprint of what a job died of.

Expand only: workers of the version before write dead letters without a fingerprint, which upkeep then names.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

CHANGES = """
ALTER TABLE jobs ADD fingerprint text, ADD cause text, ADD dead_nano_usd bigint;
CREATE INDEX jobs_dead_by_cause ON jobs (tenant_id, fingerprint, rested_at DESC, id) INCLUDE (dead_nano_usd)
    WHERE state = 'dead' AND discarded_at IS NULL;
CREATE INDEX jobs_dead_unnamed ON jobs (id) WHERE state = 'dead' AND fingerprint IS NULL;

CREATE TABLE replays (
    id text PRIMARY KEY,
    tenant_id text,
    idempotency_key text,
    filter json NOT NULL,
    patch json NOT NULL,
    canary integer NOT NULL,
    threshold double precision NOT NULL,
    per_second double precision,
    state text NOT NULL,
    detail text,
    version bigint NOT NULL DEFAULT 0,
    total integer NOT NULL,
    replayed integer NOT NULL DEFAULT 0,
    refused integer NOT NULL DEFAULT 0,
    cursor_at timestamptz,
    paced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX replays_same_request ON replays (COALESCE(tenant_id, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX replays_newest_first ON replays (created_at DESC, id DESC);
CREATE INDEX replays_under_way ON replays (created_at) WHERE state IN ('canary', 'judging', 'running');

CREATE TABLE replay_jobs (
    replay_id text NOT NULL REFERENCES replays ON DELETE CASCADE,
    job_id text NOT NULL REFERENCES jobs ON DELETE CASCADE,
    generation integer NOT NULL,
    canary boolean NOT NULL DEFAULT false,
    refusal text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (replay_id, job_id)
);
CREATE INDEX replays_of_job ON replay_jobs (job_id);
"""


def upgrade() -> None:
    op.execute(CHANGES)
