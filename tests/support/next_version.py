"""The database as the version after this one leaves it: expanded by a migration that this version does not know."""

import psycopg

NEXT = "9999"

EXPANDED = """
ALTER TABLE jobs ADD region text, ADD weight integer NOT NULL DEFAULT 1;
ALTER TABLE attempts ADD region text;
ALTER TABLE ledger ADD region text;
CREATE TABLE regions (name text PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX jobs_by_region ON jobs (region, created_at) WHERE state = 'queued'
"""


def expand(database_url: str) -> None:
    """Apply the next version's migration to a database that is at this version's newest."""
    with psycopg.connect(database_url) as connection:
        connection.execute(EXPANDED)
        connection.execute("UPDATE alembic_version SET version_num = %s", [NEXT])
