"""Jobs, their bodies and results, attempts, the ledger, files, batches, keys and leadership."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE tenants (
    id text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (id) VALUES ('default');

CREATE TABLE api_keys (
    id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenants,
    digest bytea NOT NULL UNIQUE,
    prefix text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE files (
    id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenants,
    filename text NOT NULL,
    purpose text NOT NULL,
    bytes bigint NOT NULL DEFAULT 0,
    complete boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE INDEX files_newest_first ON files (tenant_id, created_at DESC, id);
CREATE TABLE file_chunks (
    file_id text NOT NULL REFERENCES files ON DELETE CASCADE,
    seq integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (file_id, seq)
);
ALTER TABLE file_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE batches (
    id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenants,
    endpoint text NOT NULL,
    lane text NOT NULL,
    completion_window text NOT NULL,
    window_seconds double precision NOT NULL,
    input_file_id text NOT NULL,
    output_file_id text,
    error_file_id text,
    status text NOT NULL,
    errors json,
    metadata json,
    total integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    in_progress_at timestamptz,
    finalizing_at timestamptz,
    completed_at timestamptz,
    failed_at timestamptz,
    expired_at timestamptz,
    cancelling_at timestamptz,
    cancelled_at timestamptz,
    expires_at timestamptz NOT NULL
);
CREATE INDEX batches_newest_first ON batches (tenant_id, created_at DESC, id);
CREATE INDEX batches_to_advance ON batches (status) WHERE status IN ('validating', 'in_progress', 'cancelling');

CREATE TABLE jobs (
    id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenants,
    batch_id text,
    custom_id text,
    lane text NOT NULL,
    model text NOT NULL,
    endpoint text NOT NULL,
    end_user text,
    state text NOT NULL,
    generation integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    holder text,
    lease_until timestamptz,
    dispatched_at timestamptz,
    wake_at timestamptz,
    wait_reason text,
    expires_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    deaths integer NOT NULL DEFAULT 0,
    max_tries integer NOT NULL,
    max_reprompts integer NOT NULL,
    max_cost_nano_usd bigint,
    spent_nano_usd bigint NOT NULL DEFAULT 0,
    idempotency_key text,
    request_digest text NOT NULL,
    contract json,
    dead_reason text,
    message text,
    synchronous boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rested_at timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX jobs_same_request ON jobs (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_to_dispatch ON jobs (lane, model, created_at) WHERE state = 'queued' AND dispatched_at IS NULL;
CREATE INDEX jobs_run_ahead ON jobs (lane, model, dispatched_at) WHERE state = 'queued' AND dispatched_at IS NOT NULL;
CREATE INDEX jobs_to_stage ON jobs (wake_at) WHERE state = 'waiting';
CREATE INDEX jobs_to_rescue ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_to_expire ON jobs (expires_at) WHERE state IN ('queued', 'waiting');
CREATE INDEX jobs_of_batch ON jobs (batch_id, state) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_newest_first ON jobs (tenant_id, created_at DESC, id);
CREATE INDEX jobs_dead ON jobs (tenant_id, rested_at DESC, id) WHERE state = 'dead';

CREATE TABLE job_bodies (
    job_id text PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    body json NOT NULL
);
CREATE TABLE job_results (
    job_id text PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    reply json NOT NULL,
    output json,
    served_by text
);

CREATE TABLE attempts (
    id text PRIMARY KEY,
    job_id text NOT NULL REFERENCES jobs ON DELETE CASCADE,
    fence bigint NOT NULL,
    account text NOT NULL,
    model text NOT NULL,
    epoch bigint NOT NULL,
    stamp text NOT NULL,
    counters json NOT NULL,
    reserved_tokens bigint NOT NULL,
    reserved_nano_usd bigint NOT NULL,
    price json NOT NULL,
    request json,
    state text NOT NULL,
    outcome text,
    cost_nano_usd bigint NOT NULL DEFAULT 0,
    usage json,
    reply json,
    error json,
    recovery text,
    complaint text,
    provider_request_id text,
    latency_ms integer,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE INDEX attempts_of_job ON attempts (job_id, opened_at);
CREATE INDEX attempts_unsettled ON attempts (state, opened_at) WHERE state IN ('opened', 'suspense');

CREATE TABLE ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    attempt_id text NOT NULL,
    kind text NOT NULL,
    seq integer NOT NULL DEFAULT 0,
    nano_usd bigint NOT NULL,
    tenant_id text NOT NULL,
    end_user text,
    batch_id text,
    account text NOT NULL,
    model text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (attempt_id, kind, seq)
);
CREATE INDEX ledger_by_day ON ledger (tenant_id, at);

CREATE TABLE ledger_epoch (one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch bigint NOT NULL);
INSERT INTO ledger_epoch (epoch) VALUES (1);

CREATE TABLE duty_leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    until_at timestamptz NOT NULL
);

CREATE TABLE pending_results (
    task_id text PRIMARY KEY,
    job_id text NOT NULL REFERENCES jobs ON DELETE CASCADE,
    ready boolean NOT NULL DEFAULT false,
    delivered_at timestamptz
);
CREATE INDEX pending_results_to_deliver ON pending_results (job_id) WHERE ready AND delivered_at IS NULL;

CREATE TABLE effective_config (
    name text PRIMARY KEY,
    version bigint NOT NULL,
    value json NOT NULL,
    source text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    op.execute(TABLES)
