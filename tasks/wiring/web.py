"""Builds the services of a web process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from config.catalogue import Catalogue
from config.metrics import Metrics
from config.settings import Settings
from tasks.configuration.budget_admin import BudgetAdmin
from tasks.dead_letters.importing import Imports
from tasks.dead_letters.replay import Replays
from tasks.dead_letters.replay_estimate import ReplayPrices
from tasks.execution.deps import Deps
from tasks.ledger.adjustments import Adjustments
from tasks.ledger.reprice import Repricing
from tasks.ledger.unresolved import Suspense, keeping
from tasks.operations.accounts import Accounts
from tasks.operations.controls import Controls
from tasks.operations.status import Watch
from tasks.operations.tenants import Tenants
from tasks.quotes.quote import Quotes
from tasks.wiring.infrastructure import Infrastructure, open_infrastructure
from tasks.wiring.work import intake_of, working


class WebServices:
    """Holds the services of the API's routes."""

    def __init__(self, infra: Infrastructure, deps: Deps, catalogue: Catalogue, env: Mapping[str, str]) -> None:
        storage, admission, configuration = infra.storage, infra.admission, infra.configuration
        chain, now = infra.vocabulary.chain, infra.clock.now
        self.vocabulary = infra.vocabulary
        self.intake = intake_of(infra, deps)
        self.quotas = self.intake.limits.quotas
        self.reads = storage.reads
        self.dead_letters = storage.dead_letters
        self.files = storage.files
        self.batches = storage.batches
        self.stop_losses = storage.stop_losses
        self.keys = storage.keys
        self.replays = storage.replay
        self.replay = Replays(storage.replay, storage.letters)
        self.prices = ReplayPrices(storage.dead_letters, deps.planner)
        self.quotes = Quotes(
            planner=deps.planner,
            files=storage.files,
            limits=admission.gate,
            answer_tokens=storage.reads.answer_tokens,
            vocabulary=infra.vocabulary,
            now=now,
            bucket_of=configuration.bucket_of,
            most_bytes=infra.settings.max_line_bytes,
        )
        self.imports = Imports(storage.letters.bring)
        self.controls = Controls(rows=storage.controls, chain=chain, cancel_job=storage.jobs.cancel)
        self.share = configuration.share
        self.tenants = Tenants(storage, configuration, admission.gate)
        self.accounts = Accounts(
            admission.gate.open_account,
            storage.parked.note,
            names=(*catalogue.models, *catalogue.aliases),
            chain=chain,
        )
        self.budget_admin = BudgetAdmin(storage.config, storage.spend, now=now)
        self.repricing = _repricing(infra, catalogue, env)
        self.suspense = Suspense(storage.suspense, admission.ledger.resolve, keeping=keeping(catalogue), now=now)
        self.adjustments = Adjustments(storage.adjustments)
        self.watch = Watch(admission=admission, configuration=configuration, storage=storage, chain=chain, now=now)


@asynccontextmanager
async def open_web_services(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str], metrics: Metrics
) -> AsyncIterator[WebServices]:
    """Open the services. Raises InvalidSetting."""
    async with (
        open_infrastructure(settings, catalogue, process="web") as infra,
        working(infra, catalogue, env, metrics, most_seconds=settings.lease_seconds) as deps,
    ):
        yield WebServices(infra, deps, catalogue, env)


def _repricing(infra: Infrastructure, catalogue: Catalogue, env: Mapping[str, str]) -> Repricing:
    from providers.account.accounts import base_url_of  # noqa: PLC0415 - as in `working`, which has loaded it
    from providers.pricing.price_list import prices_of  # noqa: PLC0415 - the same

    urls = {name: base_url_of(name, table, env) for name, table in catalogue.providers.items()}
    return Repricing(infra.storage.reprice, prices_of(catalogue, urls))
