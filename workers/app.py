"""Builds the Celery app of workers and Flower from the environment. Only Celery imports it."""

import os
import sys
from contextlib import AbstractAsyncContextManager

from config.catalogue import load_catalogue
from config.descriptors import BESIDE_CALLS, needed_by_worker, require_descriptors
from config.logs import configure_logs
from config.metrics import Metrics
from config.settings import load_settings
from tasks.startup import refusing_settings
from workers.broker.worker_app import WorkerApp
from workers.build import assemble
from workers.flower_auth import require_password
from workers.services import WorkerServices


def build() -> WorkerApp:
    """Build the app. Raises SettingError, CatalogueError and InvalidSetting."""
    settings = load_settings()
    configure_logs(settings.env)  # before Celery and Flower would set up their own
    is_flower = "flower" in sys.argv[1:]
    if is_flower:
        require_password(settings.env, os.environ, sys.argv[1:])
    require_descriptors(settings, BESIDE_CALLS if is_flower else needed_by_worker(settings))
    catalogue, metrics = load_catalogue(settings.config), Metrics()

    def open_services() -> AbstractAsyncContextManager[WorkerServices]:
        from tasks.wiring.work import open_worker_services  # noqa: PLC0415 - Flower takes this app too, and opens no services

        return open_worker_services(settings, catalogue, os.environ, metrics)

    return assemble(settings, open_services, metrics)


with refusing_settings("worker"):
    app = build()
