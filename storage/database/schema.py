"""Migrates the database, and checks by names of migrations whether it fits.

Migrations expand first and contract a version later, so this version works with a database one version ahead.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from schemas.errors import PostgresUnavailable
from storage.database.engine import CONNECT_TIMEOUT_SECONDS, condition_of, driver_url, transaction

log = structlog.get_logger()

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
MIGRATION_LOCK = 0x50454E53
"""Advisory lock that runs concurrent releases one after the other."""

LOCK_TIMEOUT_MS = 2_000
"""Wait for a table: later statements queue behind it."""

LOCK_TRIES, LOCK_PAUSE_SECONDS = 60, 1.0
"""Pauses let those statements through."""

LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaFit:
    """Compares the database's migration (None before the first) with this version's."""

    found: str | None
    known: tuple[str, ...]

    @property
    def newest(self) -> str:
        """Return the migration that this version needs."""
        return self.known[-1]

    @property
    def is_newer(self) -> bool:
        """Tell whether the database belongs to a later version."""
        return self.found is not None and self.found not in self.known

    @property
    def is_older(self) -> bool:
        """Tell whether the database lacks migrations."""
        return not self.is_newer and self.found != self.newest

    @property
    def complaint(self) -> str | None:
        """Describe what does not fit and its remedy; None where all fits."""
        if self.is_older:
            return (
                f"The database is at migration {self.found or 'none'} and this version needs {self.newest}: "
                "run the release step, `python -m tasks.release`, before its processes start."
            )
        if self.is_newer:
            return (
                f"The database is at migration {self.found}, which this version does not know: its newest is "
                f"{self.newest}. The version right before it goes on working; deploy the one that brought it."
            )
        return None


def known_migrations() -> tuple[str, ...]:
    """List this version's migrations in order."""
    return tuple(sorted(file.stem.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py")))


async def fit_of(engine: AsyncEngine) -> SchemaFit:
    """Compare the database with this version. Raises PostgresUnavailable."""
    async with transaction(engine) as connection:
        revision = await connection.run_sync(_revision)
    return SchemaFit(found=revision, known=known_migrations())


def migrate(database_url: str, to: str = "head") -> SchemaFit:
    """Run missing migrations up to `to`; returns the fit before. Raises PostgresUnavailable.

    Safe to call twice and concurrently. A newer database is left as it is.
    """
    with _connected(database_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.commit()
        fit = SchemaFit(found=_revision(connection), known=known_migrations())
        if fit.is_older:
            _upgrade_between_others(connection, to)
        connection.commit()
    return fit


def _revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade_between_others(connection: Connection, to: str) -> None:
    """Raises PostgresUnavailable where a table never became free."""
    connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    connection.commit()
    for _ in range(LOCK_TRIES):
        try:
            _upgrade(connection, to)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            connection.rollback()
            log.warning("migration_waits", reason=str(error.orig).strip())
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return
    raise PostgresUnavailable("A table that a migration changes is never free; end what holds it and release again.")


def _upgrade(connection: Connection, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - every process asks whether the schema fits, and one migrates
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    connect_args = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    engine = create_engine(driver_url(database_url), poolclass=NullPool, connect_args=connect_args)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        condition = condition_of(error)
        if condition is None:
            raise
        raise condition from error
