"""Gauges: many scrapers cost one reading, and a store that is away costs its own gauges only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from api.gauges import BELIEVED_SECONDS, ServiceGauges
from schemas.errors import RedisUnavailable
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.states import JobState
from storage.ledger.unresolved import SuspenseTotal


@dataclass
class AWatch:
    """Three jobs wait, a budget is spent to a quarter, one target is shut; counts how often it was asked."""

    wrong: dict[str, str | None] = field(default_factory=lambda: {"redis": None})
    asked: int = 0
    waiting: JsonObject | None = field(default_factory=lambda: {"low": {"jobs": 10_000, "capped": True}})

    async def check(self) -> Mapping[str, str | None]:
        return self.wrong

    async def budgets(self) -> Sequence[JsonObject]:
        if self.wrong["redis"]:
            raise RedisUnavailable
        amounts = {"limit_usd": "1.000000000", "settled_usd": "0.250000000", "reserved_usd": "0.000000000"}
        return [{"scope": "global", "window": "2026-01-01"} | amounts]

    async def limits(self) -> Sequence[JsonObject]:
        if self.wrong["redis"]:
            raise RedisUnavailable
        requests = {"limit": "requests_per_minute", "configured": 60, "learned": None, "effective": 30, "used": 7}
        in_flight = {"limit": "in_flight", "configured": None, "learned": None, "effective": None, "used": 2}
        of_target = {
            "target": "acme/m",
            "waiting": self.waiting,
            "frozen_seconds": 1.5,
            "stopped": "insufficient_quota",
        }
        return [requests | of_target, in_flight | of_target]

    async def suspense(self) -> Sequence[SuspenseTotal]:
        return [SuspenseTotal(account="openai", attempts=2, nano_usd=NanoUsd(1_500))]

    async def thresholds(self) -> Mapping[tuple[str, int], int]:
        return {("global", 80): 2}

    async def depths(self) -> Mapping[tuple[Lane, JobState], int]:
        self.asked += 1
        return {(Lane.LOW, JobState.QUEUED): 3}


async def test_many_scrapes_cost_one_reading() -> None:
    now, watch = [0.0], AWatch()
    gauges = ServiceGauges(clock=lambda: now[0])

    for moment in (0.0, 1.0, BELIEVED_SECONDS, BELIEVED_SECONDS + 1):
        now[0] = moment
        await gauges.text(watch)

    assert watch.asked == 2


async def test_depths_money_and_thresholds_are_told() -> None:
    text = (await ServiceGauges().text(AWatch())).decode()

    assert 'penstock_jobs{lane="low",state="queued"} 3.0' in text
    assert 'penstock_budget_usd{amount="settled",scope="global",window="2026-01-01"} 0.25' in text
    assert 'penstock_budget_thresholds_passed_total{percent="80",scope="global"} 2.0' in text
    assert 'penstock_suspense_attempts{account="openai"} 2.0' in text
    assert 'penstock_suspense_nano_usd{account="openai"} 1500.0' in text


class Named(AWatch):
    """Budgets and thresholds of users, batches and prompts too."""

    async def budgets(self) -> Sequence[JsonObject]:
        [row] = await super().budgets()
        scopes = ("global", "tenant:acme", "user:acme/carol", "batch:batch_1", "prompt:acme/summary", "rule:night")
        return [row | {"scope": scope} for scope in scopes]

    async def thresholds(self) -> Mapping[tuple[str, int], int]:
        passed = ("tenant:acme", "user:acme/carol", "user:acme/dave", "batch:batch_1", "prompt:acme/summary", "user")
        return {(scope, 80): 2 for scope in passed}


async def test_no_user_batch_or_prompt_is_a_label() -> None:
    text = (await ServiceGauges().text(Named())).decode()
    scopes = set(re.findall(r'scope="([^"]*)"', text))

    assert scopes == {"global", "tenant:acme", "rule:night", "user", "batch", "prompt"}
    assert 'penstock_budget_thresholds_passed_total{percent="80",scope="user"} 6.0' in text


async def test_limits_are_told_and_unknown_figures_are_no_samples() -> None:
    lines = (await ServiceGauges().text(AWatch())).decode().splitlines()

    assert [line for line in lines if line.startswith("penstock_limit{")] == [
        'penstock_limit{figure="configured",limit="requests_per_minute",target="acme/m"} 60.0',
        'penstock_limit{figure="effective",limit="requests_per_minute",target="acme/m"} 30.0',
        'penstock_limit{figure="used",limit="requests_per_minute",target="acme/m"} 7.0',
        'penstock_limit{figure="used",limit="in_flight",target="acme/m"} 2.0',
    ]
    assert [line for line in lines if line.startswith(("penstock_waiting", "penstock_frozen", "penstock_account"))] == [
        'penstock_waiting_jobs{lane="critical",target="acme/m"} 0.0',
        'penstock_waiting_jobs{lane="high",target="acme/m"} 0.0',
        'penstock_waiting_jobs{lane="normal",target="acme/m"} 0.0',
        'penstock_waiting_jobs{lane="low",target="acme/m"} 10000.0',
        'penstock_frozen_seconds{target="acme/m"} 1.5',
        'penstock_account_stopped{target="acme/m"} 1.0',
    ]


async def test_who_waits_is_no_sample_while_nobody_knows() -> None:
    text = (await ServiceGauges().text(AWatch(waiting=None))).decode()

    assert "penstock_waiting_jobs{" not in text
    assert "penstock_frozen_seconds{" in text


async def test_a_store_that_is_away_costs_its_gauges_only() -> None:
    text = (await ServiceGauges().text(AWatch(wrong={"redis": "Redis cannot be reached."}))).decode()

    assert 'penstock_part_ready{part="redis"} 0.0' in text
    assert "penstock_jobs{" in text
    assert "penstock_budget_usd{" not in text
    assert "penstock_limit{" not in text
