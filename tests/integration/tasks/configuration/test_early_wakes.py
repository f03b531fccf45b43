"""A raised family over real stores: whatever name a job was parked under, it wakes; the others sleep on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import connected
from bench.store.sample_jobs import new_job
from config.catalogue import Catalogue, ModelTable
from providers.vocabulary import Vocabulary
from schemas.decision import Park
from schemas.job import Target
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.early_wake import ParkedTable
from storage.queue.transitions import DueTable
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.apply_limits import EarlyWakes, LimitKeeper, names_leading_to
from tasks.configuration.effective import OWNED, Configuration, values_of

FAMILY = Target(account="openai", model="shared")
ALIASES = {"small": ("one",), "falling": ("two", "alone"), "apart": ("alone",)}
NAMES = ("one", "two", "alone", *ALIASES)
WAIT = "requests_per_minute"


def catalogue(**requests_per_minute: int) -> Catalogue:
    models = {
        name: ModelTable(requests_per_minute=limit, family=None if name == "alone" else FAMILY.model)
        for name, limit in requests_per_minute.items()
    }
    return Catalogue(models=models, aliases=ALIASES)


@dataclass(frozen=True)
class Upkeep:
    """What upkeep does about limits, over these stores; `before` is what it has seen."""

    engine: AsyncEngine
    redis_url: str

    async def release(self, given: Catalogue) -> float | None:
        """Apply the file, let the gate and the parked jobs know of it; returns what the family may do now."""
        rows = ConfigTable(self.engine)
        await rows.apply_file(values_of(given), owned=OWNED)
        vocabulary = Vocabulary(given)
        names = names_leading_to((*given.models, *given.aliases), vocabulary.chain)
        async with connected(self.redis_url, namespace="early-wakes") as admission:
            await LimitKeeper(admission.gate.configure, Configuration(rows)).apply()
            await EarlyWakes(ParkedTable(self.engine), rows, names).notice()
            snapshot = await admission.gate.snapshot(FAMILY)
        assert snapshot is not None
        return snapshot.requests_per_minute.effective

    async def park(self, names: Sequence[str]) -> None:
        """One job for each name, until an hour from now."""
        table = JobTable(self.engine, holder="w", lease_seconds=30)
        jobs = [new_job(model=name) for name in names]
        await table.insert(jobs)
        held = await table.hold([(job.id, 0) for job in jobs])
        decision = Park(until_at=datetime.now(UTC) + timedelta(hours=1), reason=WAIT)
        await table.record([Record(lease=one.lease, closed=None, decision=decision) for one in held if one])

    async def woken(self) -> set[str]:
        """The names whose jobs are in their lanes again, after the rounds that were asked for."""
        await ParkedTable(self.engine).wake_early(after_seconds=0, spread_seconds=0)
        await DueTable(self.engine).stage_due()
        async with self.engine.connect() as connection:
            rows = await connection.execute(text("SELECT DISTINCT model FROM jobs WHERE state = 'queued'"))
            return set(rows.scalars())


@pytest.fixture
async def upkeep(engine: AsyncEngine, redis_url: str) -> Upkeep:
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE jobs, effective_config, config_in_force, early_wakes CASCADE"))
    ready = Upkeep(engine, redis_url)
    await ready.release(catalogue(one=60, two=120, alone=60))
    await ready.park(NAMES)
    return ready


async def test_raising_a_familys_lowest_limit_wakes_all_its_models_and_aliases(upkeep: Upkeep) -> None:
    before = await upkeep.woken()

    effective = await upkeep.release(catalogue(one=90, two=120, alone=60))

    assert before == set()
    assert effective == pytest.approx(90)
    assert await upkeep.woken() == {"one", "small", "two", "falling"}


async def test_raising_a_model_that_holds_nobody_wakes_nobody(upkeep: Upkeep) -> None:
    effective = await upkeep.release(catalogue(one=60, two=240, alone=60))

    assert effective == pytest.approx(60)
    assert await upkeep.woken() == set()


async def test_raising_a_model_outside_wakes_what_leads_to_it_and_no_family(upkeep: Upkeep) -> None:
    await upkeep.release(catalogue(one=60, two=120, alone=61))

    assert await upkeep.woken() == {"alone", "apart", "falling"}


async def test_a_raise_is_felt_once(upkeep: Upkeep) -> None:
    raised = catalogue(one=90, two=120, alone=60)
    await upkeep.release(raised)
    await upkeep.woken()
    await upkeep.park(["one"])

    await upkeep.release(raised)

    async with upkeep.engine.connect() as connection:
        asked = await connection.execute(text("SELECT count(*) FROM early_wakes"))
        assert asked.scalar_one() == 0
