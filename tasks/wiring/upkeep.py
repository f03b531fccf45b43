"""Builds the services of an upkeep process, which looks up lost completions but calls no model."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import structlog

from config.catalogue import Catalogue
from config.settings import Settings
from schemas.errors import InvalidSetting
from tasks.alerts.thresholds import Thresholds
from tasks.alerts.webhooks import Receiver, Webhooks, receiver_from
from tasks.batches.process import Batches
from tasks.batches.stop_loss import StopLosses
from tasks.configuration.apply_limits import EarlyWakes, names_leading_to
from tasks.dead_letters.replay import Replays
from tasks.dispatch.prefetch_windows import PrefetchWindows
from tasks.dispatch.share_capacity import ShareCapacities
from tasks.intake.result_delivery import Deliveries
from tasks.ledger.reconciliation import LedgerReconciler
from tasks.ledger.unresolved import LookUps, keeping
from tasks.requests.new_ids import new_job_id
from tasks.wiring.infrastructure import Infrastructure, open_infrastructure

log = structlog.get_logger()


class MaintenanceServices:
    """Holds the services of upkeep's duties."""

    def __init__(
        self, infra: Infrastructure, catalogue: Catalogue, receiver: Receiver | None, look_ups: LookUps | None
    ) -> None:
        storage, admission, now = infra.storage, infra.admission, infra.clock.now
        self.settings = infra.settings
        self.storage = storage
        self.admission = admission
        self.configuration = infra.configuration
        self.publisher = infra.publisher
        self.look_ups = look_ups
        self.dead_letter_days = catalogue.dead_letters.retention_days
        self.reconciler = LedgerReconciler(
            table=storage.ledger, due=storage.due, redis=admission.ledger, configuration=infra.configuration, now=now
        )
        self.batches = Batches(
            storage.batches,
            storage.files,
            storage.jobs,
            infra.vocabulary,
            now=now,
            new_job_id=new_job_id,
            share_of=infra.configuration.share,
            max_line_bytes=infra.settings.max_line_bytes,
        )
        self.stop_losses = StopLosses(storage.stop_losses)
        self.deliveries = Deliveries(storage.deliveries, storage.reads, infra.results)
        self.replays = Replays(storage.replay, storage.letters)
        self.prefetch_windows = PrefetchWindows(
            admission.gate,
            infra.vocabulary.chain,
            bucket_of=infra.configuration.bucket_of,
            run_ahead=infra.settings.run_ahead_jobs,
            hold_seconds=infra.settings.hold_seconds,
            clock=time.monotonic,
        )
        self.share_capacities = ShareCapacities(
            storage.backlog, admission.gate, infra.configuration, hold_seconds=infra.settings.hold_seconds
        )
        self.thresholds = Thresholds(
            redis=admission.ledger, rows=storage.thresholds, configuration=infra.configuration, now=now
        )
        self.webhooks = Webhooks(storage.thresholds, receiver, now=now)
        self.wakes = EarlyWakes(
            storage.parked,
            storage.config,
            names_leading_to((*catalogue.models, *catalogue.aliases), infra.vocabulary.chain),
        )


@asynccontextmanager
async def open_maintenance_services(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str]
) -> AsyncIterator[MaintenanceServices]:
    """Open the services. Raises InvalidSetting."""
    receiver = receiver_from(catalogue.webhooks, env)
    async with (
        open_infrastructure(settings, catalogue, process="upkeep") as infra,
        _look_ups(infra, settings, catalogue, env) as look_ups,
    ):
        services = MaintenanceServices(infra, catalogue, receiver, look_ups)
        async with aclosing(services.batches):
            yield services


@asynccontextmanager
async def _look_ups(
    infra: Infrastructure, settings: Settings, catalogue: Catalogue, env: Mapping[str, str]
) -> AsyncIterator[LookUps | None]:
    """Yield None where no account keeps completions, or one cannot be opened."""
    accounts = keeping(catalogue)
    looked_up = {name: model for name, model in catalogue.models.items() if model.provider in accounts}
    if not looked_up:
        yield None
        return
    from providers.models import open_models  # noqa: PLC0415 - loading takes a second; most need none

    async with AsyncExitStack() as opened:
        narrowed = catalogue.model_copy(update={"models": looked_up, "aliases": {}})
        look_ups: LookUps | None = None
        try:
            look_ups = LookUps(
                rows=infra.storage.suspense,
                post=infra.storage.ledger.post,
                settle=infra.admission.ledger.resolve,
                keepers=await opened.enter_async_context(open_models(narrowed, settings, env)),
                accounts=accounts,
                now=infra.clock.now,
            )
        except InvalidSetting as error:
            log.warning("look_ups_off", reason=str(error))  # the other duties must run without this key
        yield look_ups
