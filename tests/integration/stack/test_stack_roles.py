"""The application's role is no superuser, in a new home and in one that an earlier version made."""

from pathlib import Path

import psycopg

from stack.home import Home
from stack.postgres import Postgres
from stack.roles import APPLICATION, BOOTSTRAP, MOVER
from storage.database.schema import migrate

RIGHTS = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s"
OWNERS = """
SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'
UNION SELECT sequenceowner FROM pg_sequences WHERE schemaname = 'public'
UNION SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'penstock'
"""
FROM_BEFORE = """
CREATE TYPE colour AS ENUM ('red');
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE SEQUENCE alone;
CREATE VIEW shown AS SELECT count(*) AS jobs FROM jobs;
INSERT INTO tenants (id) VALUES ('from-before');
"""


def as_before(home: Home) -> None:
    """Make this home's cluster what the version before left: its first role is the application's, and a superuser."""
    with Postgres(home).running() as postgres:
        first = postgres.bootstrap_url.replace("/penstock", "/postgres")
        with psycopg.connect(first, autocommit=True) as server:
            server.execute("DROP DATABASE penstock")
            server.execute("DROP ROLE penstock")
            server.execute("CREATE ROLE other SUPERUSER LOGIN PASSWORD 'other'")
        other = f"postgresql://other:other@127.0.0.1:{postgres.port}/postgres"
        with psycopg.connect(other, autocommit=True) as server:
            server.execute("ALTER ROLE bootstrap RENAME TO penstock")
            server.execute(f"ALTER ROLE penstock PASSWORD '{home.secret('postgres-password')}'")
            server.execute("CREATE DATABASE penstock OWNER penstock")
        with psycopg.connect(postgres.url, autocommit=True) as server:
            server.execute("DROP ROLE other")
        migrate(postgres.url)
        with psycopg.connect(postgres.url) as server:
            server.execute(FROM_BEFORE)
    (home.postgres / "bootstrapped").unlink()
    (home.secrets / "postgres-bootstrap-password").unlink()


def rights(url: str, role: str) -> tuple[bool, ...] | None:
    with psycopg.connect(url) as connection:
        return connection.execute(RIGHTS, [role]).fetchone()


def may_run_programs(url: str) -> bool:
    with psycopg.connect(url) as connection:
        try:
            connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def test_in_a_new_home_the_application_is_no_superuser_and_bootstrap_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked(), Postgres(home).running() as postgres:
        migrate(postgres.url)
        found = [rights(postgres.url, role) for role in (APPLICATION, BOOTSTRAP)]
        with psycopg.connect(postgres.bootstrap_url) as connection:
            connection.execute("CREATE EXTENSION vector")

        assert found == [(False,) * 5, (True,) * 5]
        assert not may_run_programs(postgres.url)
        assert home.secret("postgres-bootstrap-password") not in postgres.url


def test_in_a_home_of_before_it_is_demoted_and_keeps_everything(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        as_before(home)
        for _ in range(2):  # the second start finds it done
            with Postgres(home).running() as postgres:
                migrate(postgres.url)
                with psycopg.connect(postgres.url) as connection:
                    owners = connection.execute(OWNERS).fetchall()
                    kept = connection.execute("SELECT id FROM tenants WHERE id = 'from-before'").fetchall()
                    connection.execute("ALTER TABLE jobs ADD COLUMN IF NOT EXISTS later int")
                    connection.execute("DROP VIEW IF EXISTS shown")
                    connection.execute("ALTER FUNCTION one() COST 5")
                    connection.execute("ALTER TYPE colour ADD VALUE IF NOT EXISTS 'blue'")

                assert owners == [(APPLICATION,)]
                assert kept == [("from-before",)]
                assert rights(postgres.bootstrap_url, APPLICATION) == (False,) * 5
                assert rights(postgres.bootstrap_url, MOVER) is None
                assert not may_run_programs(postgres.url)


def test_a_demotion_that_was_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        as_before(home)
        with Postgres(home).running() as postgres:
            assert rights(postgres.url, APPLICATION) == (False,) * 5
        (home.postgres / "bootstrapped").unlink()  # as if it had died between the two

        with Postgres(home).running() as postgres:
            assert rights(postgres.bootstrap_url, APPLICATION) == (False,) * 5
            with psycopg.connect(postgres.bootstrap_url, autocommit=True) as connection:
                connection.execute(f"CREATE ROLE {MOVER} SUPERUSER LOGIN")
        (home.postgres / "bootstrapped").unlink()

        with Postgres(home).running() as postgres:
            assert rights(postgres.bootstrap_url, MOVER) is None
