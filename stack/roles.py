"""Creates the roles of the embedded Postgres.

    bootstrap   superuser; creates the database and extensions; only `stack` knows its password
    penstock    owns the database; may not read files, run programs or make roles

In earlier versions `penstock` created the cluster. Postgres keeps its first role a superuser, so that role becomes
`bootstrap`, and a new `penstock` gets its objects in one transaction.
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

APPLICATION = "penstock"
BOOTSTRAP = "bootstrap"
DATABASE = "penstock"
MOVER = "penstock_mover"
"""Temporary role that renames the first role, which cannot rename itself."""

IS_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"

RELATIONS = """
SELECT c.oid::regclass::text AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
                  AND d.deptype IN ('e', 'a', 'i'))
"""
"""All relations except those of extensions, and sequences that follow their table."""

ROUTINES = """
SELECT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'public'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass
                  AND d.deptype = 'e')
"""

TYPES = """
SELECT t.oid::regtype::text AS name FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.classid = 'pg_type'::regclass
                  AND d.deptype = 'e')
"""

OWNED_AS = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE", "f": "FOREIGN TABLE"}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster's port, and the passwords of both roles."""

    port: int
    application_password: str
    bootstrap_password: str

    def url(self, role: str, database: str) -> str:
        """Return a role's address."""
        password = self.bootstrap_password if role == BOOTSTRAP else self.application_password
        return address(role, password, self.port, database)


def address(role: str, password: str, port: int, database: str) -> str:
    """Return `postgresql://…` on this machine."""
    return f"postgresql://{role}:{password}@127.0.0.1:{port}/{database}"


def make_application(cluster: Cluster) -> None:
    """Create the application's role and database. Safe to call twice."""
    with psycopg.connect(cluster.url(BOOTSTRAP, "postgres"), autocommit=True) as connection:
        if _missing(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", APPLICATION):
            _make_role(connection, APPLICATION, cluster.application_password)
        if _missing(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {APPLICATION}")


def demote_application(cluster: Cluster) -> None:
    """Demote the role that created this cluster. Safe to repeat after any interruption."""
    with psycopg.connect(cluster.url(APPLICATION, "postgres"), autocommit=True) as connection:
        if connection.execute(IS_SUPERUSER).fetchone() == (False,):
            _forget_mover(cluster)  # it was demoted before, but that was not recorded
            return
        if _missing(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            connection.execute(f"CREATE DATABASE {DATABASE}")
        connection.execute(f"DROP ROLE IF EXISTS {MOVER}")
        _make_role(connection, MOVER, cluster.bootstrap_password, "SUPERUSER")
    mover = address(MOVER, cluster.bootstrap_password, cluster.port, DATABASE)
    with psycopg.connect(mover) as connection:
        connection.execute(f"ALTER ROLE {APPLICATION} RENAME TO {BOOTSTRAP}")
        _set_password(connection, BOOTSTRAP, cluster.bootstrap_password)
        _make_role(connection, APPLICATION, cluster.application_password)
        connection.execute(f"ALTER DATABASE {DATABASE} OWNER TO {APPLICATION}")
        _give_everything(connection)
    _forget_mover(cluster)


def _forget_mover(cluster: Cluster) -> None:
    with psycopg.connect(cluster.url(BOOTSTRAP, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {MOVER}")


def _give_everything(connection: psycopg.Connection) -> None:
    for name, kind in connection.execute(RELATIONS).fetchall():
        _change_owner(connection, OWNED_AS[kind], name)
    for (name,) in connection.execute(ROUTINES).fetchall():
        _change_owner(connection, "ROUTINE", name)
    for (name,) in connection.execute(TYPES).fetchall():
        _change_owner(connection, "TYPE", name)


def _change_owner(connection: psycopg.Connection, kind: str, name: str) -> None:
    """Change an object's owner. `name` is already quoted by the catalogue."""
    statement = sql.SQL("ALTER {} {} OWNER TO {}")
    connection.execute(statement.format(sql.SQL(kind), sql.SQL(name), sql.Identifier(APPLICATION)))


def _make_role(connection: psycopg.Connection, name: str, password: str, rights: str = "NOSUPERUSER") -> None:
    connection.execute(f"CREATE ROLE {name} LOGIN {rights}")
    _set_password(connection, name, password)


def _set_password(connection: psycopg.Connection, name: str, password: str) -> None:
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
    connection.execute(statement)


def _missing(connection: psycopg.Connection, question: str, name: str) -> bool:
    return connection.execute(question, [name]).fetchone() is None
