"""`python -m tasks.release`: what runs once before every start of a new version. Safe to run twice and side by side.

The schema first, then the file's limits, lanes and budgets, then the operator's first key; a wrong setting refuses the
release with one line that names it.
"""

import asyncio
import os
import sys

import structlog

from config.catalogue import Catalogue, CatalogueError, load_catalogue
from config.logs import configure_logs
from config.settings import SettingError, Settings, load_settings
from schemas.errors import InvalidSetting, Unavailable
from storage.database.engine import open_engine
from storage.database.schema import SchemaFit, fit_of, migrate
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.effective import OWNED, values_of

log = structlog.get_logger()

REFUSED_SETTING, UNREACHABLE = 6, 5


async def apply_catalogue(settings: Settings, catalogue: Catalogue) -> list[str]:
    """Take over what the file says anew; returns the names of the values that changed."""
    engine = open_engine(settings.database_url.get_secret_value(), application="penstock release", pool_size=1)
    try:
        return await ConfigTable(engine).apply_file(values_of(catalogue), owned=OWNED)
    finally:
        await engine.dispose()


def schema_fit(settings: Settings) -> SchemaFit:
    """How the database and this version fit. Raises PostgresUnavailable."""

    async def ask() -> SchemaFit:
        engine = open_engine(settings.database_url.get_secret_value(), application="penstock check", pool_size=1)
        try:
            return await fit_of(engine)
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def release(settings: Settings) -> list[str]:
    """Bring the database to this version. Raises CatalogueError, InvalidSetting and PostgresUnavailable.

    A newer database is left as it is: the version before a release may be put back.
    """
    catalogue = load_catalogue(settings.config)
    fit = migrate(settings.database_url.get_secret_value())
    if fit.is_newer:
        log.warning("schema_is_newer", reason=fit.complaint)
    return asyncio.run(apply_catalogue(settings, catalogue))


def main() -> int:
    """Run the release; returns the exit code."""
    try:
        settings = load_settings()
        configure_logs(settings.env)
        changed = release(settings)
    except (SettingError, CatalogueError, InvalidSetting) as error:
        return _refused(str(error), REFUSED_SETTING)
    except Unavailable as error:
        return _refused(error.message, UNREACHABLE)
    print("release: done;", f"changed: {', '.join(changed)}" if changed else "no setting changed")  # noqa: T201 - its log
    return os.EX_OK


def _refused(why: str, code: int) -> int:
    print(f"release: {why}", file=sys.stderr)  # noqa: T201 - the one line of an error
    return code


if __name__ == "__main__":
    sys.exit(main())
