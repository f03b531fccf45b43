"""Opens what every process uses: stores, gate, configuration, publisher, result backend.

Everything belongs to the opening event loop. Stores connect at their first use.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import structlog
from celery import Celery

from admission.connect import Admission, connected
from admission.gate import DEFAULT_LIFETIME_SECONDS
from config.catalogue import Catalogue
from config.settings import Settings
from providers.vocabulary import Vocabulary
from schemas.errors import Unavailable, UnfitSchema
from storage.connect import Storage, opened
from storage.database.schema import fit_of
from tasks.configuration.effective import Configuration
from tasks.dispatch.celery_app import celery_app
from tasks.dispatch.publisher import Publisher
from tasks.intake.result_backend import ResultBackend
from tasks.maintenance.process_deaths import keep_reporting
from tasks.wiring.database_clock import StoreClock

log = structlog.get_logger()

CLOCK_SECONDS = 5.0
"""Longest that a changed clock is wrong."""

OUTLIVES_CALL_SECONDS = 60.0
"""A reservation outlives the longest call by this; an expired one belongs to a dead worker."""

CONFIGURATION_SECONDS = 2.0
"""Longest that a process uses outdated values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Infrastructure:
    """Holds the stores and shared objects of a process."""

    settings: Settings
    clock: StoreClock
    storage: Storage
    admission: Admission
    configuration: Configuration
    vocabulary: Vocabulary
    publisher: Publisher
    results: ResultBackend


def reservation_seconds(settings: Settings) -> float:
    """Return how long an unsettled grant stays reserved.

    Never shorter than the gate's default: an attempt must not open on an expired reservation.
    """
    return max(DEFAULT_LIFETIME_SECONDS, settings.total_timeout_seconds + OUTLIVES_CALL_SECONDS)


@asynccontextmanager
async def open_infrastructure(
    settings: Settings, catalogue: Catalogue, *, process: str
) -> AsyncIterator[Infrastructure]:
    """Open the stores. `process` names leases and connections. Raises UnfitSchema."""
    redis_url = settings.redis_url.get_secret_value()
    app = celery_app(redis_url)
    async with (
        opened(
            settings.database_url.get_secret_value(),
            application=f"penstock {process} {os.getpid()}",
            holder=f"{process}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
            lease_seconds=settings.lease_seconds,
        ) as storage,
        connected(redis_url, lifetime_seconds=reservation_seconds(settings)) as admission,
    ):
        await _require_schema(storage)
        configuration, clock = Configuration(storage.config), StoreClock()
        await _set_clock(clock, storage)
        async with (
            _results(app) as results,
            in_background("configuration", repeated(configuration.refresh, CONFIGURATION_SECONDS)),
            in_background("clock", repeated(partial(_set_clock, clock, storage), CLOCK_SECONDS)),
            in_background("deaths", keep_reporting(settings.home, storage.deaths)),
        ):
            yield Infrastructure(
                settings=settings,
                clock=clock,
                storage=storage,
                admission=admission,
                configuration=configuration,
                vocabulary=Vocabulary(catalogue),
                publisher=Publisher(app),
                results=results,
            )


async def _require_schema(storage: Storage) -> None:
    with suppress(Unavailable):  # users of Postgres log this
        fit = await fit_of(storage.engine)
        if fit.is_older:
            raise UnfitSchema(fit.complaint)
        if fit.is_newer:
            log.warning("schema_is_newer", reason=fit.complaint)


@asynccontextmanager
async def _results(app: Celery) -> AsyncIterator[ResultBackend]:
    results = ResultBackend(app)
    try:
        yield results
    finally:
        await results.aclose()
        await asyncio.to_thread(app.close)


async def _set_clock(clock: StoreClock, storage: Storage) -> None:
    with suppress(Unavailable):  # the last correction stays in force
        if difference := clock.sync(await storage.due.now()):
            log.debug("clock_differs", seconds=difference.total_seconds())


async def repeated(step: Callable[[], Awaitable[object]], every_seconds: float) -> NoReturn:
    """Repeat the step until cancelled; while a store is unavailable, its last result stays in force."""
    while True:
        with suppress(Unavailable):
            await step()
        await asyncio.sleep(every_seconds)


@asynccontextmanager
async def in_background(name: str, work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `work` during the block. A bug ends it and is logged; its leases run out."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_failed", work=task.get_name(), exc_info=error)
