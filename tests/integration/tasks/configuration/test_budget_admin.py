"""Budgets changed by an operator and by the file, and the report of what was spent, on a real Postgres."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from config.budgets import BudgetTable
from config.catalogue import Catalogue
from schemas.admission import Refusal, RefusalReason
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Park
from schemas.errors import InvalidRequest
from schemas.ids import TenantId
from schemas.reply import Reply
from storage.jobs.record import Record
from storage.jobs.response_cache import AnswerReads
from storage.jobs.writes import JobTable
from storage.ledger.spend_reports import SpendReads
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.budget_admin import BudgetAdmin
from tasks.configuration.effective import OWNED, effective_from, values_of
from tests.support.adjustments import adjust

REPLY = Reply(body={"id": "c", "model": "m"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")
OVER = DeadLetter(reason=DeadReason.REFUSED, message="no")


def now() -> datetime:
    return datetime.now(UTC)


def budget_admin(engine: AsyncEngine) -> BudgetAdmin:
    return BudgetAdmin(ConfigTable(engine), SpendReads(engine), now=now)


async def limit(engine: AsyncEngine) -> int | None:
    budgets = effective_from(await ConfigTable(engine).all()).budgets
    return next((budget.limit_nano_usd for budget in budgets if budget.scope == "global"), None)


def the_file(*dollars: int) -> dict[str, object]:
    return values_of(Catalogue(budgets=tuple(BudgetTable(limit_usd=Decimal(each)) for each in dollars)))


async def test_an_operator_wins_until_the_file_says_something_new(engine: AsyncEngine) -> None:
    rows, found = ConfigTable(engine), []

    await rows.apply_file(the_file(1), owned=OWNED)
    found.append(await limit(engine))
    await budget_admin(engine).set_budget({"scope": "global", "window": "day", "limit_usd": "7"})
    await rows.apply_file(the_file(1), owned=OWNED)
    found.append(await limit(engine))
    await rows.apply_file(the_file(2), owned=OWNED)
    found.append(await limit(engine))
    await rows.apply_file(the_file(), owned=OWNED)
    found.append(await limit(engine))

    assert found == [10**9, 7 * 10**9, 2 * 10**9, None]


async def test_a_report_says_who_spent_what_and_what_of_it_bought_nothing(engine: AsyncEngine) -> None:
    table, prompt = JobTable(engine, holder="w", lease_seconds=60), uuid.uuid4().hex
    ends = (("valid", Complete(reply=REPLY)), ("invalid", AskAgain(body={}, reason="reprompt")), ("declined", OVER))
    for outcome, decision in ends:
        job = new_job(prompt=prompt)
        await table.insert([job])
        [held] = await table.hold([(job.id, 0)])
        assert held is not None
        attempt = opened(held.lease)
        assert await table.open([attempt]) == [True]
        end = replace(closed(attempt, cost=10), outcome=outcome)
        await table.record([Record(lease=held.lease, closed=end, decision=decision)])

    rows = await budget_admin(engine).report(["prompt", "cause"], days=1)

    of_prompt = {row["cause"]: row["wasted_usd"] for row in rows if row["prompt"] == prompt}
    assert of_prompt == {"useful": "0.000000000", "reprompt": "0.000000010", "refused": "0.000000010"}
    [total] = [row for row in await budget_admin(engine).report(["day", "prompt"], days=1) if row["prompt"] == prompt]
    assert (total["entries"], total["spent_usd"], total["wasted_usd"]) == (3, "0.000000030", "0.000000020")


async def test_a_report_says_what_was_spent_at_which_tier(engine: AsyncEngine) -> None:
    table, prompt = JobTable(engine, holder="w", lease_seconds=60), uuid.uuid4().hex
    for tier, cost in (("flex", 5), ("default", 10), ("flex", 7), (None, 1)):
        job = new_job(prompt=prompt)
        await table.insert([job])
        [held] = await table.hold([(job.id, 0)])
        assert held is not None
        attempt = opened(held.lease)
        assert await table.open([attempt]) == [True]
        price = replace(attempt.price, output_nano_usd=3, cache_write_nano_usd=2)
        end = replace(closed(attempt, cost=cost), tier=tier, price=price if tier else None)
        await table.record([Record(lease=held.lease, closed=end, decision=Complete(reply=REPLY))])

    await adjust(engine, attempt.id, 4)
    rows = await budget_admin(engine).report(["prompt", "tier"], days=1)

    of_prompt = {row["tier"]: row["spent_usd"] for row in rows if row["prompt"] == prompt}
    assert of_prompt == {"flex": "0.000000012", "default": "0.000000010", "": "0.000000005"}
    async with engine.connect() as connection:
        query = "SELECT a.price FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.prompt = %s ORDER BY a.opened_at"
        prices = [row[0] for row in await connection.exec_driver_sql(query, (prompt,))]
    assert [(price["output"], price.get("cache_write")) for price in prices] == [(3, 2)] * 3 + [(1_000_000, None)]


async def test_only_the_same_request_of_the_same_tenant_finds_its_old_answer(engine: AsyncEngine) -> None:
    table, digest = JobTable(engine, holder="w", lease_seconds=60), uuid.uuid4().hex
    job = new_job(request_digest=digest)
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    answers = AnswerReads(engine)
    before = await answers.same(job)
    await table.record([Record(lease=held.lease, closed=None, decision=Complete(reply=REPLY, output={"a": 1}))])

    found = await answers.same(job)

    assert before is None
    assert found is not None
    assert (found.reply.body, found.output) == (REPLY.body, {"a": 1})
    assert await answers.same(replace(job, tenant_id=TenantId("other"))) is None
    assert await answers.same(replace(job, request_digest="another")) is None


@pytest.mark.parametrize(("by", "days"), [([""], 1), (["planet"], 1), (["tenant", "tenant"], 1), (["tenant"], 0)])
async def test_a_report_that_nobody_can_give_is_refused_by_name(engine: AsyncEngine, by: list[str], days: int) -> None:
    with pytest.raises(InvalidRequest):
        await budget_admin(engine).report(by, days=days)


async def test_what_a_budget_made_of_a_job_stays_with_it(engine: AsyncEngine) -> None:
    table, job = JobTable(engine, holder="w", lease_seconds=60), new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    refusal = Refusal(reason=RefusalReason.BUDGET)
    cheaper = AskAgain(body={}, reason="cheaper", note="a cheaper model")
    parked = Park(until_at=now(), reason=refusal.reason.value, note="parked")

    for decision in (cheaper, cheaper, parked):
        assert await table.record([Record(lease=held.lease, closed=None, decision=decision)]) == [True]

    async with engine.connect() as connection:
        query = "SELECT budget_steps FROM jobs WHERE id = %s"
        [steps] = (await connection.exec_driver_sql(query, (job.id,))).one()
    assert steps == ["a cheaper model", "parked"]
