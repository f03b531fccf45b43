"""What was learned about the size of prompts."""

from alembic import op

revision = "0006"
down_revision = "0005"

CHANGES = """
CREATE TABLE prompt_estimates (
    account text NOT NULL,
    model text NOT NULL,
    shape text NOT NULL,
    features text NOT NULL,
    calls bigint NOT NULL,
    sums float8[] NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, model, shape, features)
);
"""


def upgrade() -> None:
    op.execute(CHANGES)
