"""Where the concrete classes meet: each process opens its house here, and nobody else knows who is behind a protocol.

Everything belongs to the event loop that opens it. Stores connect at their first use, so a house opens while they are
away; a wrong setting refuses to open.
"""

import asyncio
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from celery import Celery

from admission.connect import Admission, connected
from admission.local_gate import LocalGate
from config.catalogue import Catalogue
from config.metrics import Metrics
from config.settings import Settings
from providers.vocabulary import Vocabulary
from schemas.accepted import Accepted
from schemas.errors import Unavailable
from schemas.ids import JobId
from schemas.job import Target
from storage.batches import BatchTable
from storage.connect import Storage, opened
from storage.dead_letters import DeadLetterReads
from storage.files import FileTable
from storage.grouped import GroupedJobs
from storage.keys import KeyTable
from storage.reads import Reads
from storage.stop_losses import StopLossTable
from tasks.adapters import StoredAnswers, StoredBatches, StoredJobs, WatchedBatches
from tasks.batches import Batches
from tasks.books import Bookkeeper
from tasks.broker import celery_app
from tasks.budgeted import BudgetedModels
from tasks.clock import StoreClock
from tasks.configuration import Configuration
from tasks.controls import Controls
from tasks.deliver import Deliveries
from tasks.deps import Deps
from tasks.entrypoints import CallerMessage, job_from_message
from tasks.estimates import keep_exchanging
from tasks.heart import Heart
from tasks.identity import new_attempt_id, new_job_id
from tasks.intake import Intake
from tasks.letters import Imports, StoredLetters
from tasks.limits import EarlyWakes, names_leading_to
from tasks.observed import observed
from tasks.openings import Openings
from tasks.patience import PatientJobs
from tasks.pipeline import run_job
from tasks.privacy import DiscreetJobs
from tasks.publish import Published, Publisher
from tasks.quote import Quotes
from tasks.replay import Replays
from tasks.replay_price import ReplayPrices
from tasks.reprice import Repricing
from tasks.results import ResultBackend
from tasks.settling import SettlingGate
from tasks.stop_loss import StopLosses
from tasks.thresholds import Thresholds
from tasks.treasury import Treasury
from tasks.watch import Watch
from tasks.webhooks import Webhooks, receiver_from

log = structlog.get_logger()

CLOCK_SECONDS = 5.0
"""How long a clock may be wrong after somebody has turned it."""

CONFIGURATION_SECONDS = 2.0
"""How long a process may work with limits and budgets that an operator has changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rooms:
    """What every process has open."""

    settings: Settings
    clock: StoreClock
    storage: Storage
    admission: Admission
    configuration: Configuration
    vocabulary: Vocabulary
    publisher: Publisher
    results: ResultBackend


@dataclass(frozen=True, kw_only=True, slots=True)
class WebHouse:
    """What the HTTP door asks for (`api.house.House`)."""

    vocabulary: Vocabulary
    intake: Intake
    reads: Reads
    dead_letters: DeadLetterReads
    files: FileTable
    batches: BatchTable
    stop_losses: StopLossTable
    keys: KeyTable
    replay: Replays
    prices: ReplayPrices
    quotes: Quotes
    imports: Imports
    watch: Watch
    treasury: Treasury
    repricing: Repricing
    controls: Controls


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerHouse:
    """What the Celery tasks ask for (`workers.house.WorkerHouse`)."""

    deps: Deps
    intake: Intake
    storage: Storage
    vocabulary: Vocabulary
    results: ResultBackend

    async def run(self, published: Published) -> None:
        """Bring a job one lease further."""
        await run_job(published.job_id, published.generation, self.deps)

    async def submit(self, message: CallerMessage) -> Accepted:
        """Take a caller's job in. Raises InvalidRequest, IdempotencyConflict and PostgresUnavailable."""
        tenants = await self.storage.keys.tenants()
        job = job_from_message(message, self.vocabulary, job_id=new_job_id(), now=self.deps.now(), tenants=tenants)
        return await self.intake.submit(job)

    async def expect(self, task_id: str, job_id: JobId) -> None:
        """Deliver the job's end to this task id when it rests."""
        await self.storage.deliveries.expect(task_id, job_id)

    async def cancel(self, task_ids: Sequence[str]) -> int:
        """Cancel the jobs whose end was promised to these task ids. Raises PostgresUnavailable."""
        jobs = await self.storage.deliveries.promised(task_ids)
        return sum([await self.intake.cancel(job_id, None) for job_id in jobs])


@dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepHouse:
    """What upkeep does its duties with."""

    settings: Settings
    storage: Storage
    admission: Admission
    configuration: Configuration
    publisher: Publisher
    books: Bookkeeper
    batches: Batches
    stop_losses: StopLosses
    deliveries: Deliveries
    replays: Replays
    dead_letter_days: int | None
    openings: Openings
    wakes: EarlyWakes
    thresholds: Thresholds
    webhooks: Webhooks


@asynccontextmanager
async def open_web_house(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str], metrics: Metrics
) -> AsyncIterator[WebHouse]:
    """The house of a web process: it runs synchronous completions itself. Raises InvalidSetting."""
    async with (
        _rooms(settings, catalogue, process="web") as rooms,
        _working(rooms, catalogue, env, metrics, most_seconds=settings.lease_seconds) as deps,
    ):
        yield WebHouse(
            vocabulary=rooms.vocabulary,
            intake=_intake(rooms, deps),
            reads=rooms.storage.reads,
            dead_letters=rooms.storage.dead_letters,
            files=rooms.storage.files,
            batches=rooms.storage.batches,
            stop_losses=rooms.storage.stop_losses,
            keys=rooms.storage.keys,
            replay=Replays(rooms.storage.replay, rooms.storage.letters),
            prices=ReplayPrices(StoredLetters(rooms.storage.dead_letters), deps.models),
            quotes=_quotes(rooms, deps),
            imports=Imports(rooms.storage.letters),
            controls=Controls(
                rooms.storage.controls, chain=rooms.vocabulary.chain, cancel_job=rooms.storage.jobs.cancel
            ),
            treasury=Treasury(rooms.storage.config, rooms.storage.spend, now=rooms.clock.now),
            repricing=_repricing(rooms, catalogue, env),
            watch=Watch(
                rooms.admission,
                rooms.configuration,
                keys=rooms.storage.keys,
                reads=rooms.storage.reads,
                passed=rooms.storage.thresholds,
                now=rooms.clock.now,
            ),
        )


@asynccontextmanager
async def open_worker_house(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str], metrics: Metrics
) -> AsyncIterator[WorkerHouse]:
    """The house of a Celery worker process. Raises InvalidSetting."""
    async with _rooms(settings, catalogue, process="worker") as rooms, _working(rooms, catalogue, env, metrics) as deps:
        yield WorkerHouse(
            deps=deps,
            intake=_intake(rooms, deps),
            storage=rooms.storage,
            vocabulary=rooms.vocabulary,
            results=rooms.results,
        )


@asynccontextmanager
async def open_upkeep_house(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str]
) -> AsyncIterator[UpkeepHouse]:
    """The house of an upkeep process, which calls no model. Raises InvalidSetting."""
    receiver = receiver_from(catalogue.webhooks, env)
    async with _rooms(settings, catalogue, process="upkeep") as rooms:
        storage = rooms.storage
        yield UpkeepHouse(
            settings=settings,
            storage=storage,
            admission=rooms.admission,
            configuration=rooms.configuration,
            publisher=rooms.publisher,
            books=Bookkeeper(
                table=storage.ledger,
                due=storage.due,
                redis=rooms.admission.ledger,
                configuration=rooms.configuration,
                now=rooms.clock.now,
            ),
            batches=Batches(
                StoredBatches(storage.batches, storage.files),
                StoredJobs(storage.jobs, storage.reads),
                rooms.vocabulary,
                now=rooms.clock.now,
                new_job_id=new_job_id,
                max_line_bytes=settings.max_line_bytes,
            ),
            stop_losses=StopLosses(WatchedBatches(storage.stop_losses)),
            deliveries=Deliveries(storage.deliveries, storage.reads, rooms.results),
            replays=Replays(storage.replay, storage.letters),
            dead_letter_days=catalogue.dead_letters.retention_days,
            openings=Openings(
                rooms.admission.gate,
                rooms.vocabulary.chain,
                run_ahead=settings.run_ahead_jobs,
                hold_seconds=settings.hold_seconds,
                clock=time.monotonic,
            ),
            thresholds=Thresholds(
                redis=rooms.admission.ledger,
                rows=storage.thresholds,
                configuration=rooms.configuration,
                now=rooms.clock.now,
            ),
            webhooks=Webhooks(storage.thresholds, receiver, now=rooms.clock.now),
            wakes=EarlyWakes(
                storage.parked, names_leading_to((*catalogue.models, *catalogue.aliases), rooms.vocabulary.chain)
            ),
        )


@asynccontextmanager
async def _rooms(settings: Settings, catalogue: Catalogue, *, process: str) -> AsyncIterator[Rooms]:
    redis_url = settings.redis_url.get_secret_value()
    app = celery_app(redis_url)
    async with (
        opened(
            settings.database_url.get_secret_value(),
            application=f"penstock {process}",
            holder=f"{process}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
            lease_seconds=settings.lease_seconds,
        ) as storage,
        connected(redis_url) as admission,
    ):
        configuration, clock = Configuration(storage.config), StoreClock()
        await _set_clock(clock, storage)
        async with (
            _results(app) as results,
            _in_background("configuration", _keep_current(configuration)),
            _in_background("clock", _keep_time(clock, storage)),
        ):
            yield Rooms(
                settings=settings,
                clock=clock,
                storage=storage,
                admission=admission,
                configuration=configuration,
                vocabulary=Vocabulary(catalogue),
                publisher=Publisher(app),
                results=results,
            )


@asynccontextmanager
async def _working(
    rooms: Rooms, catalogue: Catalogue, env: Mapping[str, str], metrics: Metrics, most_seconds: float | None = None
) -> AsyncIterator[Deps]:
    """The deps of `run_job`, with the heart that keeps this process's leases alive. Raises InvalidSetting.

    `most_seconds` is how long a Postgres that is away is waited for; a caller on the line does not wait for ever.
    """
    from providers.models import open_models  # noqa: PLC0415 - the client takes half a second to load; upkeep needs none

    settings, chance = rooms.settings, random.Random()  # noqa: S311 - spreads retries, guards nothing
    heart = Heart(rooms.storage.jobs.renew, every_seconds=settings.heartbeat_seconds)
    metrics.held_leases.set_function(lambda: heart.leases)
    jobs = PatientJobs(
        GroupedJobs(rooms.storage.jobs, heart.beating),
        pause=asyncio.sleep,
        jitter=chance.random,
        most_seconds=most_seconds,
    )
    gate = LocalGate(
        rooms.admission.gate,
        jitter=chance.random,
        hold_seconds=settings.hold_seconds,
        family_of=rooms.configuration.family_of,
        now=rooms.clock.now,
    )
    async with (
        open_models(catalogue, settings, env) as models,
        _in_background("heart", heart.run()),
        _in_background("estimates", keep_exchanging(models.estimates, rooms.storage.estimates)),
    ):
        deps = Deps(
            jobs=jobs if catalogue.privacy.store_content else DiscreetJobs(jobs),
            gate=SettlingGate(gate),
            models=BudgetedModels(models, rooms.configuration),
            answers=StoredAnswers(rooms.storage.answers),
            now=rooms.clock.now,
            pause=asyncio.sleep,
            jitter=chance.random,
            attempt_id=new_attempt_id,
        )
        yield observed(deps, metrics, time.monotonic)
        await gate.aclose()


@asynccontextmanager
async def _results(app: Celery) -> AsyncIterator[ResultBackend]:
    results = ResultBackend(app)
    try:
        yield results
    finally:
        await results.aclose()
        await asyncio.to_thread(app.close)


def _intake(rooms: Rooms, deps: Deps) -> Intake:
    jobs = StoredJobs(rooms.storage.jobs, rooms.storage.reads)
    return Intake(jobs, rooms.storage.batches, rooms.publisher, deps, rooms.configuration.check)


def _repricing(rooms: Rooms, catalogue: Catalogue, env: Mapping[str, str]) -> Repricing:
    from providers.accounts import base_url_of  # noqa: PLC0415 - as in `_working`, which has loaded it
    from providers.price_list import prices_of  # noqa: PLC0415 - the same

    urls = {name: base_url_of(name, table, env) for name, table in catalogue.providers.items()}
    return Repricing(rooms.storage.reprice, prices_of(catalogue, urls))


def _quotes(rooms: Rooms, deps: Deps) -> Quotes:
    def bucket_of(target: Target) -> Target:
        family = rooms.configuration.family_of(target)
        return target if family is None else Target(account=target.account, model=family)

    return Quotes(
        deps.models,
        rooms.storage.files,
        rooms.admission.gate,
        rooms.storage.reads,
        rooms.vocabulary,
        now=rooms.clock.now,
        bucket_of=bucket_of,
        most_bytes=rooms.settings.max_line_bytes,
    )


async def _keep_current(configuration: Configuration) -> None:
    while True:
        with suppress(Unavailable):  # what was known stays in force; whoever needs Postgres says that it is away
            await configuration.refresh()
        await asyncio.sleep(CONFIGURATION_SECONDS)


async def _keep_time(clock: StoreClock, storage: Storage) -> None:
    while True:
        await asyncio.sleep(CLOCK_SECONDS)
        await _set_clock(clock, storage)


async def _set_clock(clock: StoreClock, storage: Storage) -> None:
    with suppress(Unavailable):  # the difference that was known stays in force
        if difference := clock.heed(await storage.now()):
            log.debug("clock_differs", seconds=difference.total_seconds())


@asynccontextmanager
async def _in_background(name: str, work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run beside the block. Its bug is logged and ends it: leases that nobody renews run out, which is safe."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_failed", work=task.get_name(), exc_info=error)
