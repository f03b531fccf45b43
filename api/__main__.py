"""`python -m api`: the web process. A wrong setting ends it with one line and exit code 6."""

import os
import sys
from contextlib import AbstractAsyncContextManager

import uvicorn

from api.app import create_app
from api.house import House
from config.catalogue import Catalogue, CatalogueError, load_catalogue
from config.settings import SettingError, Settings, load_settings
from tasks.wiring import open_web_house

REFUSED_SETTING = 6


def main() -> int:
    """Serve until SIGTERM or SIGINT, then let requests under way finish within the grace."""
    try:
        settings = load_settings()
        catalogue = load_catalogue(settings.config)
    except (SettingError, CatalogueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - there are no logs before there are settings
        return REFUSED_SETTING
    uvicorn.Server(server_config(settings, catalogue)).run()
    return 0


def server_config(settings: Settings, catalogue: Catalogue) -> uvicorn.Config:
    """How the door is served; what uvicorn logs goes where all our logs go."""
    return uvicorn.Config(
        create_app(settings, catalogue, _open_house),
        host=settings.listen_host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_grace_seconds),
    )


def _open_house(settings: Settings, catalogue: Catalogue) -> AbstractAsyncContextManager[House]:
    return open_web_house(settings, catalogue, os.environ)


if __name__ == "__main__":
    sys.exit(main())
