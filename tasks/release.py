"""Prepares the database for a new version, by `python -m tasks.release`. Safe to run twice and side by side."""

import asyncio
import sys

import structlog

from config.catalogue import Catalogue, load_catalogue
from config.exit_codes import ExitCode
from config.logs import configure_logs
from config.settings import Settings, load_settings
from schemas.errors import Unavailable
from storage.database.engine import open_engine
from storage.database.schema import SchemaFit, fit_of, migrate
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.effective import OWNED, values_of
from tasks.startup import refusing_settings

log = structlog.get_logger()


async def apply_catalogue(settings: Settings, catalogue: Catalogue) -> list[str]:
    """Apply the file's changes; returns the names of changed values."""
    engine = open_engine(settings.database_url.get_secret_value(), application="penstock release", pool_size=1)
    try:
        return await ConfigTable(engine).apply_file(values_of(catalogue), owned=OWNED)
    finally:
        await engine.dispose()


def schema_fit(settings: Settings) -> SchemaFit:
    """Compare the database with this version. Raises PostgresUnavailable."""

    async def ask() -> SchemaFit:
        engine = open_engine(settings.database_url.get_secret_value(), application="penstock check", pool_size=1)
        try:
            return await fit_of(engine)
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def release(settings: Settings) -> list[str]:
    """Prepare the database. Raises CatalogueError, InvalidSetting and PostgresUnavailable.

    A newer database is left for a rollback.
    """
    catalogue = load_catalogue(settings.config)
    fit = migrate(settings.database_url.get_secret_value())
    if fit.is_newer:
        log.warning("schema_is_newer", reason=fit.complaint)
    return asyncio.run(apply_catalogue(settings, catalogue))


def main() -> int:
    """Run the release; returns the exit code."""
    with refusing_settings("release"):
        settings = load_settings()
        configure_logs(settings.env)
        try:
            changed = release(settings)
        except Unavailable as error:
            print(f"release: {error.message}", file=sys.stderr)  # noqa: T201 - the one line of an error
            return ExitCode.UNREACHABLE
    print("release: done;", f"changed: {', '.join(changed)}" if changed else "no setting changed")  # noqa: T201 - its log
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
