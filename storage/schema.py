"""Bring the database to this version's schema, and say whether it is there already."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from schemas.errors import PostgresUnavailable
from storage.engine import CONNECT_TIMEOUT_SECONDS, driver_url

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
MIGRATION_LOCK = 0x50454E53
"""Advisory lock, so that two releases at once run one after the other."""


def migrate(database_url: str) -> None:
    """Run the missing migrations, each in its transaction. Safe to call twice and from two places at once."""
    with _connected(database_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.commit()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def schema_fits(database_url: str) -> bool:
    """Whether the database is at the newest migration that this version knows."""
    with _connected(database_url) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found == ScriptDirectory.from_config(_config()).get_current_head()


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    """One blocking connection. Raises PostgresUnavailable."""
    connect_args = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    engine = create_engine(driver_url(database_url), poolclass=NullPool, connect_args=connect_args)
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        raise PostgresUnavailable from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
