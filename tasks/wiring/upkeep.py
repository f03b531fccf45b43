"""Builds the services of an upkeep process, which calls no model but looks up lost completions at providers."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from admission.connect import Admission
from config.catalogue import Catalogue
from config.settings import Settings
from schemas.errors import InvalidSetting
from storage.connect import Storage
from tasks.alerts.thresholds import Thresholds
from tasks.alerts.webhooks import Webhooks, receiver_from
from tasks.batches.process import Batches
from tasks.batches.stop_loss import StopLosses
from tasks.configuration.apply_limits import EarlyWakes, names_leading_to
from tasks.configuration.effective import Configuration
from tasks.dead_letters.replay import Replays
from tasks.dispatch.publisher import Publisher
from tasks.dispatch.windows import Openings
from tasks.intake.result_delivery import Deliveries
from tasks.ledger.reconciliation import LedgerReconciler
from tasks.ledger.unresolved import LookUps, keeping
from tasks.requests.new_ids import new_job_id
from tasks.wiring.infrastructure import Infrastructure, open_infrastructure

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceServices:
    """The services that upkeep's duties use."""

    settings: Settings
    storage: Storage
    admission: Admission
    configuration: Configuration
    publisher: Publisher
    reconciler: LedgerReconciler
    batches: Batches
    stop_losses: StopLosses
    deliveries: Deliveries
    replays: Replays
    dead_letter_days: int | None
    openings: Openings
    wakes: EarlyWakes
    thresholds: Thresholds
    webhooks: Webhooks
    look_ups: LookUps | None


@asynccontextmanager
async def open_maintenance_services(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str]
) -> AsyncIterator[MaintenanceServices]:
    """Open the services of an upkeep process. Raises InvalidSetting."""
    receiver = receiver_from(catalogue.webhooks, env)
    async with (
        open_infrastructure(settings, catalogue, process="upkeep") as infra,
        _look_ups(infra, settings, catalogue, env) as look_ups,
        AsyncExitStack() as closing,
    ):
        storage = infra.storage
        batches = Batches(
            storage.batches,
            storage.files,
            storage.jobs,
            infra.vocabulary,
            now=infra.clock.now,
            new_job_id=new_job_id,
            share_of=infra.configuration.share,
            max_line_bytes=settings.max_line_bytes,
        )
        closing.push_async_callback(batches.aclose)
        yield MaintenanceServices(
            settings=settings,
            storage=storage,
            admission=infra.admission,
            configuration=infra.configuration,
            publisher=infra.publisher,
            reconciler=LedgerReconciler(
                table=storage.ledger,
                due=storage.due,
                redis=infra.admission.ledger,
                configuration=infra.configuration,
                now=infra.clock.now,
            ),
            batches=batches,
            stop_losses=StopLosses(storage.stop_losses),
            deliveries=Deliveries(storage.deliveries, storage.reads, infra.results),
            replays=Replays(storage.replay, storage.letters),
            dead_letter_days=catalogue.dead_letters.retention_days,
            openings=_openings(infra, settings),
            thresholds=Thresholds(
                redis=infra.admission.ledger,
                rows=storage.thresholds,
                configuration=infra.configuration,
                now=infra.clock.now,
            ),
            webhooks=Webhooks(storage.thresholds, receiver, now=infra.clock.now),
            look_ups=look_ups,
            wakes=EarlyWakes(
                storage.parked,
                storage.config,
                names_leading_to((*catalogue.models, *catalogue.aliases), infra.vocabulary.chain),
            ),
        )


def _openings(infra: Infrastructure, settings: Settings) -> Openings:
    return Openings(
        infra.admission.gate,
        infra.vocabulary.chain,
        bucket_of=infra.configuration.bucket_of,
        run_ahead=settings.run_ahead_jobs,
        hold_seconds=settings.hold_seconds,
        clock=time.monotonic,
    )


@asynccontextmanager
async def _look_ups(
    infra: Infrastructure, settings: Settings, catalogue: Catalogue, env: Mapping[str, str]
) -> AsyncIterator[LookUps | None]:
    """Open look-ups at the accounts that keep completions; None where none does, or one cannot be opened."""
    accounts = keeping(catalogue)
    kept = {name: model for name, model in catalogue.models.items() if model.provider in accounts}
    if not kept:
        yield None
        return
    from providers.models import Models, open_models  # noqa: PLC0415 - loading takes a second; most need none

    async with AsyncExitStack() as opened:
        narrowed = catalogue.model_copy(update={"models": kept, "aliases": {}})
        models: Models | None = None
        try:
            models = await opened.enter_async_context(open_models(narrowed, settings, env))
        except InvalidSetting as error:
            log.warning("look_ups_off", reason=str(error))  # the other duties must run without this key
        yield (
            None
            if models is None
            else LookUps(
                rows=infra.storage.suspense,
                post=infra.storage.ledger.post,
                settle=infra.admission.ledger.resolve,
                keepers=models,
                accounts=accounts,
                now=infra.clock.now,
            )
        )
