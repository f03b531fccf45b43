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

OWNED = """
SELECT item.kind, item.name FROM (
    SELECT 'pg_class'::regclass AS catalogue, oid, oid::regclass::text AS name,
           CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                        WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS kind
    FROM pg_class WHERE relnamespace = to_regnamespace('public') AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL SELECT 'pg_proc'::regclass, oid, oid::regprocedure::text, 'ROUTINE'
    FROM pg_proc WHERE pronamespace = to_regnamespace('public')
    UNION ALL SELECT 'pg_type'::regclass, oid, oid::regtype::text, 'TYPE'
    FROM pg_type WHERE typnamespace = to_regnamespace('public') AND typtype IN ('e', 'd')
) item
WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = item.catalogue AND d.objid = item.oid
                  AND d.deptype IN ('e', 'a', 'i'))
"""
"""Relations, routines and types, except those of extensions, and those that follow another object, as a serial's
sequence follows its table. Names are quoted."""


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
    statement = sql.SQL("ALTER {} {} OWNER TO {}")
    for kind, name in connection.execute(OWNED).fetchall():
        connection.execute(statement.format(sql.SQL(kind), sql.SQL(name), sql.Identifier(APPLICATION)))


def _make_role(connection: psycopg.Connection, name: str, password: str, rights: str = "NOSUPERUSER") -> None:
    connection.execute(f"CREATE ROLE {name} LOGIN {rights}")
    _set_password(connection, name, password)


def _set_password(connection: psycopg.Connection, name: str, password: str) -> None:
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
    connection.execute(statement)


def _missing(connection: psycopg.Connection, question: str, name: str) -> bool:
    return connection.execute(question, [name]).fetchone() is None
