"""Plans know their budgets, and nothing that is counted runs at an unknown price."""

from datetime import datetime
from decimal import Decimal

from config.budgets import BudgetTable
from config.catalogue import Catalogue
from schemas.admission import Refusal, RefusalReason
from schemas.errors import UnknownModel
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.money import UNKNOWN_PRICE, NanoUsd, Price, Quote
from schemas.plan import Plan
from tasks.configuration.effective import Configuration
from tasks.execution.planner import BudgetedPlanner
from tests.support.fakes import NOW, PRICE, TARGET, FakeModels, a_job
from tests.unit.tasks.configuration.test_effective import Rows, rows_of

BUDGETED = Catalogue(budgets=(BudgetTable(limit_usd=Decimal(1)), BudgetTable(scope="user", limit_usd=Decimal(1))))


class Models(FakeModels):
    def __init__(self, price: Price = PRICE) -> None:
        super().__init__(answers=[])
        self.price = price

    def chain(self, model: str) -> tuple[Target, ...]:
        if model == "gone":
            raise UnknownModel
        return self.targets

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        quote = Quote(input_tokens=1, output_tokens=1, cost_nano_usd=NanoUsd(1))
        return Plan(target=target, body=body, price=self.price, quote=quote)


async def planned(models: Models, catalogue: Catalogue, job: Job) -> Plan | Refusal:
    configuration = Configuration(Rows(rows_of(catalogue)))
    await configuration.refresh()
    planner = BudgetedPlanner(models, configuration)
    return planner.plan(job, planner.chain(job.model)[0], job.body, NOW)


async def test_a_plan_names_every_budget_that_counts_the_job() -> None:
    plan = await planned(Models(), BUDGETED, a_job(user="u1"))

    assert isinstance(plan, Plan)
    assert [counter.scope for counter in plan.counters] == ["global", "user:default/u1"]


async def test_an_unknown_price_is_refused_where_money_is_counted() -> None:
    unknown = Models(price=UNKNOWN_PRICE)

    refused = await planned(unknown, BUDGETED, a_job())
    capped = await planned(unknown, Catalogue(), a_job(max_cost_nano_usd=NanoUsd(5)))
    free = await planned(unknown, Catalogue(), a_job())

    assert refused == capped == Refusal(reason=RefusalReason.UNKNOWN_PRICE, scope=str(TARGET))
    assert isinstance(free, Plan)


async def test_a_model_that_was_taken_out_of_the_configuration_is_refused() -> None:
    refused = await planned(Models(), Catalogue(), a_job(model="gone"))

    assert refused == Refusal(reason=RefusalReason.UNKNOWN_MODEL, scope="gone")


async def test_nothing_is_planned_before_the_budgets_are_known() -> None:
    planner = BudgetedPlanner(Models(), Configuration(Rows([])))

    assert planner.plan(a_job(), TARGET, {}, NOW) == Refusal(reason=RefusalReason.NOT_READY)
