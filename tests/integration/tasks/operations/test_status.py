"""What an operator sees: a budget's balance and burn, and a bucket with everybody who waits for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import Admission, connected
from admission.limits import TargetLimits
from bench.store.sample_jobs import new_job
from config.budgets import BudgetTable
from config.catalogue import Catalogue, ModelTable
from providers.vocabulary import Vocabulary
from schemas.errors import RedisUnavailable
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd
from stack.home import free_port
from storage.connect import Storage
from storage.database.engine import open_engine
from storage.database.listings import Listings
from storage.jobs.writes import JobTable
from storage.ledger.budget_alerts import ThresholdTable
from storage.queue.waiting_counts import WaitingReads
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.effective import OWNED, Configuration, values_of
from tasks.operations.status import BELIEVED_SECONDS, Watch

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Burning(ThresholdTable):
    """Burns a dollar a second; counts how often it was asked."""

    asked = 0

    async def burn(self, seconds: float) -> dict[tuple[str, str], NanoUsd]:
        self.asked += 1
        return {("global", "2026-11-24@UTC"): NanoUsd(int(seconds) * 10**9)}


def a_watch(
    admission: Admission,
    engine: AsyncEngine,
    *,
    catalogue: Catalogue | None = None,
    passed: ThresholdTable | None = None,
    waiting: WaitingReads | None = None,
) -> Watch:
    storage = Storage(engine, Listings(engine), holder="watch", lease_seconds=30)
    storage.thresholds, storage.waiting = passed or storage.thresholds, waiting or storage.waiting
    return Watch(
        admission=admission,
        configuration=Configuration(storage.config),
        storage=storage,
        chain=Vocabulary(catalogue or Catalogue()).chain,
        now=lambda: NOW,
    )


async def test_a_listing_forecasts_when_all_is_spent_and_seldom_reads_the_burn(
    engine: AsyncEngine, redis_url: str
) -> None:
    catalogue = Catalogue(budgets=(BudgetTable(limit_usd=Decimal(60), window="day", pacing="even"),))
    await ConfigTable(engine).apply_file(values_of(catalogue), owned=OWNED)
    burning = Burning(engine)
    async with connected(redis_url) as admission:
        watch = a_watch(admission, engine, passed=burning)

        rows = [row for _ in range(3) for row in await watch.budgets()]

    assert BELIEVED_SECONDS > 0
    assert burning.asked == 1
    found = {row["full_at"] for row in rows if row["scope"] == "global"}
    assert found == {NOW.replace(minute=1)}
    assert {row["pace_usd"] for row in rows if row["scope"] == "global"} == {"36.000000000"}  # half a day, and a tenth


MINI, SHARED = Target(account="openai", model="mini"), Target(account="openai", model="shared")
TOGETHER = Catalogue(models={"mini": ModelTable(requests_per_minute=60, family="shared")}, aliases={"small": ("mini",)})


@asynccontextmanager
async def a_gate(redis_url: str) -> AsyncIterator[Admission]:
    """Of a family, and of its model from before it joined."""
    async with connected(redis_url, namespace="watch") as admission:
        await admission.gate.configure(TargetLimits(target=MINI, requests_per_minute=30), 1)
        await admission.gate.configure(TargetLimits(target=SHARED, requests_per_minute=60), 1)
        yield admission


async def test_waiters_under_any_name_count_at_the_family_not_the_old_bucket(
    engine: AsyncEngine, redis_url: str
) -> None:
    await ConfigTable(engine).apply_file(values_of(TOGETHER), owned=OWNED)
    jobs = [new_job(model=model, lane=lane) for model in ("mini", "small") for lane in (Lane.HIGH, Lane.LOW)]
    await JobTable(engine, holder="w", lease_seconds=30).insert(jobs)

    async with a_gate(redis_url) as admission:
        watch = a_watch(admission, engine, catalogue=TOGETHER)
        await watch.check()  # reads the configuration in force
        rows = await watch.limits()

    assert [(row["id"], row["configured"]) for row in rows] == [
        ("openai/shared/requests_per_minute", 60),
        ("openai/shared/in_flight", None),
    ]
    each = {"jobs": 2, "capped": False, "queued": 2, "in_place": 0, "parked": 0}
    assert [row["waiting"] for row in rows] == [{"high": each, "low": each}] * 2


async def test_limits_are_told_without_postgres_and_not_without_redis(engine: AsyncEngine, redis_url: str) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    away = open_engine(nowhere, application="tests")

    async with a_gate(redis_url) as admission:
        rows = await a_watch(admission, engine, waiting=WaitingReads(away)).limits()
    async with connected(f"redis://127.0.0.1:{free_port()}/0") as admission:
        with pytest.raises(RedisUnavailable):
            await a_watch(admission, engine).limits()

    await away.dispose()
    assert {row["configured"] for row in rows if row["limit"] == "requests_per_minute"} == {30, 60}
    assert [row["waiting"] for row in rows] == [None] * 4
