"""`python -m api`: the web process."""

import asyncio
import os
from collections.abc import Mapping

from prometheus_client import REGISTRY

from api.app import create_app
from api.server.server import Server
from config.catalogue import Catalogue, load_catalogue
from config.descriptors import log_descriptors, needed_by_web, require_descriptors
from config.logs import configure_logs
from config.memory import keep_what_started
from config.metrics import Metrics
from config.settings import Settings, load_settings
from config.watchdog import watched
from tasks.startup import refusing_settings
from tasks.wiring.web import open_web_services


async def serve(settings: Settings, catalogue: Catalogue, env: Mapping[str, str]) -> None:
    """Serve until a signal, then let open requests finish. Raises InvalidSetting."""
    metrics = Metrics(REGISTRY)
    async with (
        watched(settings.watchdog_seconds, metrics.loop_delay_seconds.observe) as watchdog,
        open_web_services(settings, catalogue, env, metrics) as services,
    ):
        app = create_app(settings, catalogue, services)
        keep_what_started()
        watchdog.has_started()
        log_descriptors(settings, needed_by_web(settings))
        await Server(app, settings).serve()


def main() -> None:
    """Run the web process."""
    with refusing_settings("web"):
        settings = load_settings()
        configure_logs(settings.env)
        require_descriptors(settings, needed_by_web(settings))
        asyncio.run(serve(settings, load_catalogue(settings.config), os.environ))


if __name__ == "__main__":
    main()
