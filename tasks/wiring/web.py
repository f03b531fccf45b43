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
from tasks.ledger.reprice import Repricing
from tasks.ledger.unresolved import Suspense, keeping
from tasks.operations.accounts import Accounts
from tasks.operations.controls import Controls
from tasks.operations.status import Watch
from tasks.operations.tenants import Tenants
from tasks.quotes.quote import Quotes
from tasks.tenancy.quotas import Quotas
from tasks.wiring.infrastructure import Rooms, open_rooms
from tasks.wiring.work import intake_of, quotas_of, working


@dataclass(frozen=True, kw_only=True, slots=True)
class WebServices:
    """What the routes of the API use."""

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
        open_rooms(settings, catalogue, process="web") as rooms,
        working(rooms, catalogue, env, metrics, most_seconds=settings.lease_seconds) as deps,
    ):
        quotas = quotas_of(rooms)
        yield WebServices(
            vocabulary=rooms.vocabulary,
            intake=intake_of(rooms, deps, quotas),
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
            quotas=quotas,
            share=rooms.configuration.share,
            tenants=Tenants(
                rooms.storage.config, rooms.configuration, rooms.storage.keys, rooms.storage.usage, rooms.admission.gate
            ),
            accounts=Accounts(
                rooms.admission.gate,
                rooms.storage.parked,
                names=(*catalogue.models, *catalogue.aliases),
                chain=rooms.vocabulary.chain,
            ),
            budget_admin=BudgetAdmin(rooms.storage.config, rooms.storage.spend, now=rooms.clock.now),
            repricing=_repricing(rooms, catalogue, env),
            suspense=Suspense(
                rooms.storage.suspense, rooms.admission.ledger.resolve, keeping=keeping(catalogue), now=rooms.clock.now
            ),
            watch=Watch(
                rooms.admission,
                rooms.configuration,
                keys=rooms.storage.keys,
                reads=rooms.storage.reads,
                waiting=rooms.storage.waiting,
                chain=rooms.vocabulary.chain,
                passed=rooms.storage.thresholds,
                suspense=rooms.storage.suspense,
                now=rooms.clock.now,
            ),
        )


def _repricing(rooms: Rooms, catalogue: Catalogue, env: Mapping[str, str]) -> Repricing:
    from providers.account.accounts import base_url_of  # noqa: PLC0415 - as in `working`, which has loaded it
    from providers.pricing.price_list import prices_of  # noqa: PLC0415 - the same

    urls = {name: base_url_of(name, table, env) for name, table in catalogue.providers.items()}
    return Repricing(rooms.storage.reprice, prices_of(catalogue, urls))


def _quotes(rooms: Rooms, deps: Deps) -> Quotes:
    return Quotes(
        deps.models,
        rooms.storage.files,
        rooms.admission.gate,
        rooms.storage.reads,
        rooms.vocabulary,
        now=rooms.clock.now,
        bucket_of=rooms.configuration.bucket_of,
        most_bytes=rooms.settings.max_line_bytes,
    )
