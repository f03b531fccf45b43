"""History is priced again once, however often it is asked for, on a real Postgres."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import TARGET, closed, new_job, opened
from schemas.decision import Complete
from schemas.ids import AttemptId, JobId
from schemas.job import Target
from schemas.money import UNKNOWN_PRICE, Price
from schemas.reply import Reply
from storage.jobs.reads import Reads
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.reprice import RepriceTable
from tasks.ledger.reprice import Repricing, Round
from tests.support.adjustments import adjust

REPLY = Reply(body={"id": "c", "model": "m"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


class OnePrice:
    """A price per million for one model; nobody knows the others."""

    def __init__(self, nano_usd: int, model: str) -> None:
        self._price = Price(
            input_nano_usd=nano_usd, cached_input_nano_usd=nano_usd, output_nano_usd=nano_usd, source="here"
        )
        self._model = model
        self.flex = replace(self._price, input_nano_usd=1, output_nano_usd=1)

    def served(self, target: Target, now: datetime, *, tier: str | None, input_tokens: int) -> Price | None:
        return self.flex if tier == "flex" else None

    def price(self, target: Target, now: datetime, *, tier: str, input_tokens: int) -> Price:
        return self._price if target.model == self._model else UNKNOWN_PRICE


async def spent_42(engine: AsyncEngine, model: str, tier: str | None = None) -> tuple[JobId, AttemptId]:
    table, job = JobTable(engine, holder="w", lease_seconds=60), new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease)
    target = replace(TARGET, model=model)
    attempt = replace(attempt, target=target, grant=replace(attempt.grant, target=target))
    await table.open([attempt])
    end = replace(closed(attempt, cost=42), tier=tier)
    await table.record([Record(lease=held.lease, closed=end, decision=Complete(reply=REPLY))])
    return job.id, attempt.id


async def whole(repricing: Repricing, model: str, *, dry_run: bool = False) -> Round:
    return await repricing.round(since=LONG_AGO, model=model, dry_run=dry_run)


async def test_differences_are_booked_once_and_a_dry_run_books_nothing(engine: AsyncEngine) -> None:
    model = f"m-{datetime.now(UTC).timestamp()}"
    job_id, _ = await spent_42(engine, model)
    table = RepriceTable(engine)
    dearer, cheaper = (Repricing(table, OnePrice(price * 1_000_000, model)) for price in (2, 1))

    dry = await whole(dearer, model, dry_run=True)
    first, again = await whole(dearer, model), await whole(dearer, model)
    rested = await Reads(engine).rested(job_id)
    back = await whole(cheaper, model)

    assert (dry.checked, dry.adjusted, dry.adjusted_nano_usd) == (1, 1, 42)
    assert (first.adjusted, first.adjusted_nano_usd) == (1, 42)
    assert (again.checked, again.adjusted) == (1, 0)
    assert rested is not None
    assert rested.cost_nano_usd == 84
    assert back.adjusted_nano_usd == -42


async def test_an_invoice_stands_and_what_nobody_can_price_is_left_alone(engine: AsyncEngine) -> None:
    model = f"n-{datetime.now(UTC).timestamp()}"
    job_id, attempt_id = await spent_42(engine, model)
    await adjust(engine, attempt_id, 8)
    same, unknown = (Repricing(RepriceTable(engine), OnePrice(1_000_000, name)) for name in (model, "another"))

    found, unpriced = await whole(same, model), await whole(unknown, model)

    assert (found.checked, found.adjusted) == (1, 0)
    assert (unpriced.unpriced, unpriced.adjusted) == (1, 0)
    rested = await Reads(engine).rested(job_id)
    assert rested is not None
    assert rested.cost_nano_usd == 50


async def test_history_is_priced_at_the_tier_that_served_it(engine: AsyncEngine) -> None:
    model = f"m-{datetime.now(UTC).timestamp()}"
    await spent_42(engine, model, tier="flex")

    done = await whole(Repricing(RepriceTable(engine), OnePrice(1_000_000, model)), model)

    assert done.adjusted_nano_usd == 1 - 42
