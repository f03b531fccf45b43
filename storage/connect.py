"""Opens all tables over one pool of connections, and closes them together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from storage.batches.batches import BatchTable
from storage.batches.files import FileTable
from storage.batches.stop_losses import StopLossTable
from storage.database.engine import POOL_SIZE, open_engine
from storage.database.leadership import Leadership
from storage.database.listings import Listings, open_listings_engine
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
from storage.queue.poison_isolation import SuspectTable
from storage.queue.process_deaths import DeathTable
from storage.queue.transitions import DueTable
from storage.queue.urgent import UrgentTable
from storage.queue.waiting_counts import WaitingReads
from storage.tenancy.celery_results import DeliveryTable
from storage.tenancy.configuration import ConfigTable
from storage.tenancy.keys import KeyTable
from storage.tenancy.token_estimates import EstimateTable
from storage.tenancy.usage import UsageTable


class Storage:
    """Holds all tables. `holder` names this process in its leases."""

    def __init__(self, engine: AsyncEngine, listings: Listings, *, holder: str, lease_seconds: float) -> None:
        self.engine, self.holder = engine, holder
        self.jobs = JobTable(engine, holder=holder, lease_seconds=lease_seconds)
        self.reads = Reads(engine, listings)
        self.due = DueTable(engine)
        self.deaths = DeathTable(engine)
        self.backlog = BacklogTable(engine)
        self.controls = ControlTable(engine)
        self.parked = ParkedTable(engine)
        self.batches = BatchTable(engine, listings)
        self.files = FileTable(engine, listings)
        self.keys = KeyTable(engine)
        self.dead_letters = DeadLetterReads(engine, listings)
        self.replay = ReplayTable(engine, listings)
        self.letters = LetterTable(engine)
        self.deliveries = DeliveryTable(engine)
        self.ledger = LedgerTable(engine)
        self.seals = SealTable(engine)
        self.config = ConfigTable(engine)
        self.suspects = SuspectTable(engine)
        self.suspense = SuspenseTable(engine, listings)
        self.estimates = EstimateTable(engine)
        self.answers = AnswerReads(engine)
        self.thresholds = ThresholdTable(engine)
        self.waiting = WaitingReads(engine)
        self.urgent = UrgentTable(engine)
        self.usage = UsageTable(engine)
        self.spend = SpendReads(engine)
        self.stop_losses = StopLossTable(engine)
        self.reprice = RepriceTable(engine)
        self.adjustments = AdjustmentTable(engine)

    def leadership(self, name: str) -> Leadership:
        """Build this process's candidacy for one duty."""
        return Leadership(self.engine, name=name, holder=self.holder)


@asynccontextmanager
async def opened(
    database_url: str, *, application: str, holder: str, lease_seconds: float, pool_size: int = POOL_SIZE
) -> AsyncIterator[Storage]:
    """Open storage on this event loop; connects at the first use."""
    engine = open_engine(database_url, application=application, pool_size=pool_size)
    listings_engine = open_listings_engine(database_url, application=application)
    try:
        yield Storage(engine, Listings(listings_engine), holder=holder, lease_seconds=lease_seconds)
    finally:
        await listings_engine.dispose()
        await engine.dispose()
