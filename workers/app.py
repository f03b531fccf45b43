"""The entry point of `celery -A workers.app worker` and `celery -A workers.app flower`; nobody else imports it.

It reads the environment once. A wrong setting ends the process with one line.
"""

import os
import sys
from functools import partial

from config.catalogue import CatalogueError, load_catalogue
from config.settings import SettingError, load_settings
from schemas.errors import InvalidSetting
from tasks.wiring import open_worker_house
from workers.assembly import assemble
from workers.flower_door import require_password
from workers.pool import REFUSED_SETTING
from workers.worker_app import WorkerApp


def build() -> WorkerApp:
    """Build the app from the environment. Raises SettingError, CatalogueError and InvalidSetting."""
    settings = load_settings()
    if "flower" in sys.argv[1:]:
        require_password(settings.env, os.environ, sys.argv[1:])
    return assemble(settings, partial(open_worker_house, settings, load_catalogue(settings.config), os.environ))


try:
    app = build()
except (SettingError, CatalogueError, InvalidSetting) as error:
    print(f"worker: {error}", file=sys.stderr)  # noqa: T201 - the one line of a refused start
    sys.exit(REFUSED_SETTING)
