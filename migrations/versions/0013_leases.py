"""Leases by the moment at which they run out, found by the lease and not by the state.

An index of what is running was taken for every join that tests that state: read to its end for a handful of jobs, with
all that had run since it was last tidied.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

CHANGES = """
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE lease_until IS NOT NULL;
DROP INDEX jobs_to_rescue;
"""


def upgrade() -> None:
    op.execute(CHANGES)
