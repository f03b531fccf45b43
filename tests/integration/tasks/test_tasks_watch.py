"""What an operator sees of a budget: its balance in Redis, and when all is spent at the burn that Postgres knows."""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import connected
from config.catalogue import BudgetTable, Catalogue
from schemas.money import NanoUsd
from storage.config_rows import ConfigTable
from storage.keys import KeyTable
from storage.reads import Reads
from storage.thresholds import ThresholdTable
from storage.waiting import WaitingReads
from tasks.configuration import BUDGET_OF, Configuration, values_of
from tasks.watch import BELIEVED_SECONDS, Watch

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Burning(ThresholdTable):
    """Burns a dollar a second; counts how often it was asked."""

    asked = 0

    async def burn(self, seconds: float) -> dict[tuple[str, str], NanoUsd]:
        self.asked += 1
        return {("global", "2026-11-24@UTC"): NanoUsd(int(seconds) * 10**9)}


async def test_a_listing_forecasts_when_all_is_spent_and_asks_for_the_burn_seldom(
    engine: AsyncEngine, redis_url: str
) -> None:
    catalogue = Catalogue(budgets=(BudgetTable(limit_usd=Decimal(60), window="day", pacing="even"),))
    await ConfigTable(engine).apply_file(values_of(catalogue), owned=BUDGET_OF)
    burning = Burning(engine)
    async with connected(redis_url) as admission:
        watch = Watch(
            admission,
            Configuration(ConfigTable(engine)),
            keys=KeyTable(engine),
            reads=Reads(engine),
            waiting=WaitingReads(engine),
            chain=lambda _: (),
            passed=burning,
            now=lambda: NOW,
        )

        rows = [row for _ in range(3) for row in await watch.budgets()]

    assert BELIEVED_SECONDS > 0
    assert burning.asked == 1
    found = {row["full_at"] for row in rows if row["scope"] == "global"}
    assert found == {NOW.replace(minute=1)}
    assert {row["pace_usd"] for row in rows if row["scope"] == "global"} == {"36.000000000"}  # half a day, and a tenth
