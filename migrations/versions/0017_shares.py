"""What a tenant may have: urgent jobs that fair dispatch publishes at once, lanes of a batch's key, bytes stored.

Expand only: the version before leaves an urgent job to dispatch after two seconds, and counts no bytes.
"""

from alembic import op

revision = "0017"
down_revision = "0016"

CHANGES = """
ALTER TABLE jobs ADD left_to_dispatch boolean NOT NULL DEFAULT false;
ALTER TABLE batches ADD lanes text[];
CREATE TABLE tenant_bytes (
    tenant_id text PRIMARY KEY REFERENCES tenants,
    counted_bytes bigint NOT NULL DEFAULT 0,
    counted_to timestamptz NOT NULL DEFAULT 'epoch',
    pass_bytes bigint NOT NULL DEFAULT 0,
    pass_at timestamptz NOT NULL DEFAULT 'epoch',
    pass_began_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
"""


def upgrade() -> None:
    op.execute(CHANGES)
