"""Builds the services of a web process, which also runs synchronous completions."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.catalogue import Catalogue
from config.metrics import Metrics
from config.settings import Settings
from providers.vocabulary import Vocabulary
from schemas.ids import TenantId
from schemas.tenants import TenantShare
from storage.batches.batches import BatchTable
from storage.batches.files import FileTable
from storage.batches.stop_losses import StopLossTable
from storage.dead_letters.reads import DeadLetterReads
from storage.jobs.reads import Reads
from storage.tenancy.keys import KeyTable
from tasks.configuration.budget_admin import BudgetAdmin
from tasks.dead_letters.importing import Imports, StoredLetters
from tasks.dead_letters.replay import Replays
from tasks.dead_letters.replay_estimate import ReplayPrices
from tasks.execution.deps import Deps
from tasks.intake.submit import Intake
from tasks.ledger.adjustments import Adjustments
from tasks.ledger.reprice import Repricing
from tasks.ledger.unresolved import Suspense, keeping
from tasks.operations.accounts import Accounts
from tasks.operations.controls import Controls
from tasks.operations.status import Watch
from tasks.operations.tenants import Tenants
from tasks.quotes.quote import Quotes
from tasks.tenancy.quotas import Quotas
from tasks.wiring.infrastructure import Infrastructure, open_infrastructure
from tasks.wiring.work import intake_of, quotas_of, working


@dataclass(frozen=True, kw_only=True, slots=True)
class WebServices:
    """The services that the routes of the API use."""

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
    budget_admin: BudgetAdmin
    repricing: Repricing
    suspense: Suspense
    adjustments: Adjustments
    controls: Controls
    accounts: Accounts
    quotas: Quotas
    tenants: Tenants
    share: Callable[[TenantId], TenantShare]


@asynccontextmanager
async def open_web_services(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str], metrics: Metrics
) -> AsyncIterator[WebServices]:
    """Open the services of a web process. Raises InvalidSetting."""
    async with (
        open_infrastructure(settings, catalogue, process="web") as infra,
        working(infra, catalogue, env, metrics, most_seconds=settings.lease_seconds) as deps,
    ):
        quotas = quotas_of(infra)
        yield WebServices(
            vocabulary=infra.vocabulary,
            intake=intake_of(infra, deps, quotas),
            reads=infra.storage.reads,
            dead_letters=infra.storage.dead_letters,
            files=infra.storage.files,
            batches=infra.storage.batches,
            stop_losses=infra.storage.stop_losses,
            keys=infra.storage.keys,
            replay=Replays(infra.storage.replay, infra.storage.letters),
            prices=ReplayPrices(StoredLetters(infra.storage.dead_letters), deps.models),
            quotes=_quotes(infra, deps),
            imports=Imports(infra.storage.letters),
            controls=Controls(
                infra.storage.controls, chain=infra.vocabulary.chain, cancel_job=infra.storage.jobs.cancel
            ),
            quotas=quotas,
            share=infra.configuration.share,
            tenants=Tenants(
                infra.storage.config, infra.configuration, infra.storage.keys, infra.storage.usage, infra.admission.gate
            ),
            accounts=Accounts(
                infra.admission.gate,
                infra.storage.parked,
                names=(*catalogue.models, *catalogue.aliases),
                chain=infra.vocabulary.chain,
            ),
            budget_admin=BudgetAdmin(infra.storage.config, infra.storage.spend, now=infra.clock.now),
            repricing=_repricing(infra, catalogue, env),
            suspense=Suspense(
                infra.storage.suspense, infra.admission.ledger.resolve, keeping=keeping(catalogue), now=infra.clock.now
            ),
            adjustments=Adjustments(infra.storage.adjustments),
            watch=Watch(
                infra.admission,
                infra.configuration,
                keys=infra.storage.keys,
                reads=infra.storage.reads,
                waiting=infra.storage.waiting,
                chain=infra.vocabulary.chain,
                passed=infra.storage.thresholds,
                suspense=infra.storage.suspense,
                now=infra.clock.now,
            ),
        )


def _repricing(infra: Infrastructure, catalogue: Catalogue, env: Mapping[str, str]) -> Repricing:
    from providers.account.accounts import base_url_of  # noqa: PLC0415 - as in `working`, which has loaded it
    from providers.pricing.price_list import prices_of  # noqa: PLC0415 - the same

    urls = {name: base_url_of(name, table, env) for name, table in catalogue.providers.items()}
    return Repricing(infra.storage.reprice, prices_of(catalogue, urls))


def _quotes(infra: Infrastructure, deps: Deps) -> Quotes:
    return Quotes(
        deps.models,
        infra.storage.files,
        infra.admission.gate,
        infra.storage.reads,
        infra.vocabulary,
        now=infra.clock.now,
        bucket_of=infra.configuration.bucket_of,
        most_bytes=infra.settings.max_line_bytes,
    )
