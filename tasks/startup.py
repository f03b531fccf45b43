"""Ends a process with one line and an exit code for a wrong setting."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from config.catalogue import CatalogueError
from config.exit_codes import ExitCode
from config.settings import SettingError
from schemas.errors import InvalidSetting

SETTING_ERRORS = (SettingError, CatalogueError, InvalidSetting)


def refuse(process: str, reason: object) -> SystemExit:
    """Print why a process does not start; returns what to raise."""
    print(f"{process}: {reason}", file=sys.stderr)  # noqa: T201 - the one line of a refused start
    return SystemExit(ExitCode.REFUSED_SETTING)


@contextmanager
def refusing_settings(process: str) -> Iterator[None]:
    """Exit with one line where the block raises an error about a setting."""
    try:
        yield
    except SETTING_ERRORS as error:
        raise refuse(process, error) from None
