"""Virtual time of tenants in each flow, and what an operator has paused or moved."""

from alembic import op

revision = "0004"
down_revision = "0003"

CHANGES = """
ALTER TABLE jobs ADD work_tokens integer NOT NULL DEFAULT 1024;
CREATE INDEX jobs_to_take ON jobs (lane, model, tenant_id, (COALESCE(batch_id, '')), expires_at, created_at)
    WHERE state = 'queued' AND dispatched_at IS NULL;
DROP INDEX jobs_to_dispatch;
CREATE INDEX jobs_to_wake_early ON jobs (wait_reason, model, wake_at) WHERE state = 'waiting';
CREATE INDEX jobs_waiting_of_tenant ON jobs (tenant_id) WHERE state = 'waiting';

CREATE TABLE flow_times (
    lane text NOT NULL,
    model text NOT NULL,
    virtual_time bigint NOT NULL DEFAULT 0,
    seen_tenant text NOT NULL DEFAULT '',
    seen_batch text NOT NULL DEFAULT '',
    PRIMARY KEY (lane, model)
) WITH (fillfactor = 50);
CREATE TABLE tenant_times (
    lane text NOT NULL,
    model text NOT NULL,
    tenant_id text NOT NULL,
    virtual_time bigint NOT NULL,
    PRIMARY KEY (lane, model, tenant_id)
) WITH (fillfactor = 50);

CREATE TABLE controls (
    verb text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    lane text,
    sweeping boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (verb, kind, name)
);
CREATE TABLE early_wakes (
    reason text NOT NULL,
    model text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (reason, model)
);
CREATE TABLE config_in_force (
    name text PRIMARY KEY,
    version bigint NOT NULL,
    value json NOT NULL
);
"""


def upgrade() -> None:
    op.execute(CHANGES)
