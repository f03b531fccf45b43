"""Opens all tables over one pool of connections, and closes them together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from storage.batches.batches import BatchTable
from storage.batches.files import FileTable
from storage.batches.stop_losses import StopLossTable
from storage.database.engine import POOL_SIZE, open_engine, transaction
from storage.database.leadership import Leadership
from storage.database.listings import Listings, open_listings_engine
from storage.database.statements import fetch
from storage.dead_letters.reads import DeadLetterReads
from storage.dead_letters.replays import ReplayTable
from storage.dead_letters.writes import LetterTable
from storage.jobs.reads import Reads
from storage.jobs.response_cache import AnswerReads
from storage.jobs.writes import JobTable
from storage.ledger.adjustments import AdjustmentTable
from storage.ledger.budget_alerts import ThresholdTable
from storage.ledger.checkpoints import SealTable
from storage.ledger.ledger import LedgerTable
from storage.ledger.reprice import RepriceTable
from storage.ledger.spend_reports import SpendReads
from storage.ledger.unresolved import SuspenseTable
from storage.queue.backlog import BacklogTable
from storage.queue.controls import ControlTable
from storage.queue.early_wake import ParkedTable
from storage.queue.isolation import SuspectTable
from storage.queue.process_deaths import DeathTable
from storage.queue.transitions import DueTable
from storage.queue.urgent import UrgentTable
from storage.queue.waiting_counts import WaitingReads
from storage.tenancy.celery_results import DeliveryTable
from storage.tenancy.configuration import ConfigTable
from storage.tenancy.keys import KeyTable
from storage.tenancy.token_estimates import EstimateTable
from storage.tenancy.usage import UsageTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """All tables of Postgres. `holder` is the name under which this process holds leases."""

    holder: str
    jobs: JobTable
    reads: Reads
    due: DueTable
    deaths: DeathTable
    backlog: BacklogTable
    controls: ControlTable
    parked: ParkedTable
    batches: BatchTable
    files: FileTable
    keys: KeyTable
    dead_letters: DeadLetterReads
    replay: ReplayTable
    letters: LetterTable
    deliveries: DeliveryTable
    ledger: LedgerTable
    seals: SealTable
    config: ConfigTable
    suspects: SuspectTable
    suspense: SuspenseTable
    estimates: EstimateTable
    answers: AnswerReads
    thresholds: ThresholdTable
    waiting: WaitingReads
    urgent: UrgentTable
    usage: UsageTable
    spend: SpendReads
    stop_losses: StopLossTable
    reprice: RepriceTable
    adjustments: AdjustmentTable
    engine: AsyncEngine

    async def now(self) -> datetime:
        """Postgres's clock, by which leases and wake-ups are judged. Raises PostgresUnavailable."""
        async with transaction(self.engine) as connection:
            [row] = await fetch(connection, "SELECT clock_timestamp() AS now", {})
        found: datetime = row["now"]
        return found

    def leadership(self, name: str) -> Leadership:
        """This process's candidacy for one duty."""
        return Leadership(self.engine, name=name, holder=self.holder)


@asynccontextmanager
async def opened(
    database_url: str, *, application: str, holder: str, lease_seconds: float, pool_size: int = POOL_SIZE
) -> AsyncIterator[Storage]:
    """Open storage on this event loop. Connects at the first use, so Postgres may still be down."""
    engine = open_engine(database_url, application=application, pool_size=pool_size)
    listings_engine = open_listings_engine(database_url, application=application)
    listings = Listings(listings_engine)
    try:
        yield Storage(
            holder=holder,
            jobs=JobTable(engine, holder=holder, lease_seconds=lease_seconds),
            reads=Reads(engine, listings),
            due=DueTable(engine),
            deaths=DeathTable(engine),
            backlog=BacklogTable(engine),
            controls=ControlTable(engine),
            parked=ParkedTable(engine),
            batches=BatchTable(engine, listings),
            files=FileTable(engine, listings),
            keys=KeyTable(engine),
            dead_letters=DeadLetterReads(engine, listings),
            replay=ReplayTable(engine, listings),
            letters=LetterTable(engine),
            deliveries=DeliveryTable(engine),
            ledger=LedgerTable(engine),
            seals=SealTable(engine),
            config=ConfigTable(engine),
            suspects=SuspectTable(engine),
            suspense=SuspenseTable(engine, listings),
            estimates=EstimateTable(engine),
            answers=AnswerReads(engine),
            thresholds=ThresholdTable(engine),
            waiting=WaitingReads(engine),
            urgent=UrgentTable(engine),
            usage=UsageTable(engine),
            spend=SpendReads(engine),
            stop_losses=StopLossTable(engine),
            reprice=RepriceTable(engine),
            adjustments=AdjustmentTable(engine),
            engine=engine,
        )
    finally:
        await listings_engine.dispose()
        await engine.dispose()
