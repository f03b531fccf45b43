"""Assembles a worker's Celery app."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import structlog
from celery import signals
from celery.concurrency import get_implementation

import workers.broker.revoke  # noqa: F401 - registers the control command with Celery
from config.descriptors import log_descriptors, needed_by_worker
from config.logs import configure_logs
from config.metrics import Metrics
from config.settings import Settings
from tasks.startup import refuse
from workers.broker.transport import unreadable_item
from workers.broker.worker_app import WorkerApp
from workers.pool.pool import TaskPool
from workers.services import WorkerServices
from workers.tasks import add_tasks, tell_revoked

log = structlog.get_logger()

SILENT_SECONDS = 10.0
"""Pause between log lines about dropped items, which could fill the disk."""


def assemble(
    settings: Settings, open_services: Callable[[], AbstractAsyncContextManager[WorkerServices]], metrics: Metrics
) -> WorkerApp:
    """Build the app once per process, because Celery's signals are process-wide."""
    app = WorkerApp(settings, open_services, metrics)
    add_tasks(app)
    signals.setup_logging.connect(partial(_set_up_logs, settings), weak=False)
    unreadable_item.connect(UnreadableItems(app.metrics).count, weak=False)
    signals.task_revoked.connect(partial(tell_revoked, app), weak=False)
    signals.worker_init.connect(_require_our_pool, weak=False)
    signals.worker_init.connect(partial(_serve_metrics, app.metrics, settings.metrics_port), weak=False)
    signals.worker_ready.connect(partial(_log_descriptors, settings), weak=False)
    return app


def _set_up_logs(settings: Settings, *, loglevel: int = logging.INFO, **_: object) -> None:
    configure_logs(settings.env, "DEBUG" if loglevel <= logging.DEBUG else "INFO")


def _log_descriptors(settings: Settings, **_: object) -> None:
    log_descriptors(settings, needed_by_worker(settings))


def _require_our_pool(*, sender: Any, **_: object) -> None:  # noqa: ANN401 - Celery's worker
    if get_implementation(sender.pool_cls) is not TaskPool:
        raise refuse("worker", "tasks are coroutines: leave out -P, workers.pool.pool runs them")


class UnreadableItems:
    """Counts dropped list items, and logs them at most every SILENT_SECONDS."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._items = 0
        self._silent_until = float("-inf")

    def count(self, *, reason: str, **_: object) -> None:
        """Count one dropped item."""
        self._metrics.unreadable_items.inc()
        self._items += 1
        if time.monotonic() >= self._silent_until:
            log.warning("items_dropped", items=self._items, reason=reason)
            self._items, self._silent_until = 0, time.monotonic() + SILENT_SECONDS


def _serve_metrics(metrics: Metrics, port: int, **_: object) -> None:
    if port == 0:
        return
    try:
        metrics.serve(port)
    except OSError as error:  # jobs run without metrics
        log.error("metrics_not_served", port=port, reason=str(error))  # noqa: TRY400 - a taken port has no traceback
