"""The scripts against a model in plain Python: whatever is asked in whatever order, both answer the same.

After each step every field of the packed bucket, every counter, every reservation and every event is compared.
"""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import time
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from admission import tenants
from admission.connect import Admission
from admission.days import DayResets
from admission.limits import TargetLimits
from admission.state import unpack
from schemas.admission import (
    Ask,
    Grant,
    LimitFigures,
    LimitHeaders,
    Pace,
    Penalty,
    Refusal,
    RefusalReason,
    SettleKind,
    Settlement,
    Wait,
    WaitReason,
)
from schemas.ids import AttemptId, TenantId
from schemas.lanes import Lane
from schemas.tenants import TenantShare
from tests.support.admission_fixture import (
    SECOND_US,
    START_US,
    TARGET,
    Clock,
    a_counter,
    an_ask,
    moment_of,
    open_admission,
)
from tests.support.gate_model import GateModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIFETIME_SECONDS = 60.0
COUNTERS = (a_counter(1_000), a_counter(1_500, scope="tenant:a"), a_counter(50_000, window="2026-11@UTC"))
HOUR = Pace(starts_at=moment_of(START_US), ends_at=moment_of(START_US + 3_600 * SECOND_US), ahead=0.25)
PACED = tuple(replace(counter, pace=pace) for counter, pace in zip(COUNTERS, (HOUR, None, HOUR), strict=True))
ONE_US = 1.0
RELATIVE = 1e-12
"""Doubles of 10^16 µs are exact to 2; sums of them in another order may differ in the last bit."""

NOON_IN_LORD_HOWE = DayResets(at=time(12), zone=ZoneInfo("Australia/Lord_Howe"))
"""Where the clock changes by half an hour."""

Step: TypeAlias = tuple[str, Any]


def of(*values: object) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


SHARES = st.builds(
    TenantShare,
    tenant_id=st.just(TenantId("greedy/one")),
    requests_per_minute=of(None, 60, 6_000),
    tokens_per_minute=of(None, 1_000, 100_000),
    calls_in_flight=of(None, 2, 40),
)
ASKS = st.builds(
    an_ask,
    share=of(None) | SHARES,
    has_share_ticket=st.booleans(),
    lane=st.sampled_from(Lane),
    tokens=of(0, 1, 10, 100, 500, 900, 3_000, 59_999, 60_001),
    cost_nano_usd=of(0, 1, 10, 400, 999),
    counters=of((), COUNTERS[:1], COUNTERS[:2], COUNTERS, PACED, PACED),
    waited_ms=of(0, 30_001, 60_001),
    has_ticket=st.booleans(),
    horizon_ms=of(0, 50, 400),
)
WILD_HEADERS = st.builds(
    LimitHeaders,
    limit_requests=of(None, 0, 60, 600),
    remaining_requests=of(None, -1, 0, 1, 50, 599),
    reset_requests_ms=of(None, 1, 1_000, 60_000, 86_400_000),
    limit_tokens=of(None, 0, 30_000, 60_000),
    remaining_tokens=of(None, -1, 0, 100, 20_000, 29_900, 59_900),
    reset_tokens_ms=of(None, 1, 100, 20_000, 40_000, 60_000, 86_400_000),
)


def true_headers(limit: int, spent: int, period_ms: int) -> LimitHeaders:
    """As a provider with one limit of each kind tells them: resets that fit what is missing."""
    return LimitHeaders(
        limit_requests=limit // 100,
        remaining_requests=(limit - spent) // 100,
        reset_requests_ms=period_ms * spent // limit,
        limit_tokens=limit,
        remaining_tokens=limit - spent,
        reset_tokens_ms=period_ms * spent // limit,
    )


TRUE_HEADERS = st.builds(true_headers, of(30_000), of(100, 1_000, 29_000, 29_900), of(60_000, 60_000, 86_400_000))
HEADERS = WILD_HEADERS | TRUE_HEADERS | TRUE_HEADERS | TRUE_HEADERS
ENDS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(SettleKind),
        "actual_tokens": of(0, 1, 60, 100, 1_000),
        "actual_nano_usd": of(0, 1, 10, 400, 999, 1_500),
        "refund_permits": st.booleans(),
        "headers": HEADERS,
    }
)
LIMITS = st.builds(
    TargetLimits,
    target=st.just(TARGET),
    requests_per_minute=of(None, 60, 600),
    tokens_per_minute=of(None, 30_000, 60_000),
    requests_per_day=of(None, 20),
    tokens_per_day=of(None, 100_000),
    max_in_flight=of(None, 2, 40),
    day_resets=of(None, None, NOON_IN_LORD_HOWE),
    burst_ms=of(1_000, 6_000),
    refund_share=of(None, 0.0, 0.5),
)
FIGURES = st.builds(
    LimitFigures,
    limit=of(60, 60_000),
    used=of(60, 59_918, 60_000),
    requested=of(1, 2_094),
    wait_ms=of(1, 6, 1_000, 2_012, 2_900_000),
)
ADMIT, SETTLE = st.tuples(st.just("admit"), ASKS), st.tuples(st.just("settle"), st.tuples(st.integers(0, 3), ENDS))
PASS = st.tuples(st.just("pass"), of(1, 999, 20_000, 300_000, 1_000_000))
USUAL: st.SearchStrategy[Step] = ADMIT | ADMIT | ADMIT | SETTLE | SETTLE | PASS
PENALTY = st.builds(
    Penalty,
    wait_ms=of(1, 250, 2_012, 30_000),
    limit=of(None, *WaitReason),
    figures=of(None) | FIGURES,
    ramp=of(False, False, True),
)
RARE: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("penalize"), PENALTY),
    st.tuples(st.just("configure"), st.tuples(LIMITS, st.integers(0, 3))),
    st.tuples(st.just("expire"), st.none()),
    st.tuples(st.just("settle"), st.tuples(st.integers(0, 20), ENDS)),
    st.tuples(st.just("pass"), of(9_000_000, 61_000_000, 5 * 3_600_000_000, 26 * 3_600_000_000)),
    st.tuples(st.just("step_back"), of(1, 500_000, 999_999, 1_000_000, 5_000_000, 3_600_000_000)),
)
STARTS = st.tuples(st.just("configure"), st.tuples(LIMITS, st.just(1))) | st.tuples(st.just("expire"), st.none())


def lives(start: Step, chapters: list[tuple[list[Step], Step]]) -> list[Step]:
    """Much of the usual between two rare events."""
    return [start, ("pass", 5_000_000), *(step for usual, rare in chapters for step in (*usual, rare))]


LIVES = st.builds(lives, STARTS, st.lists(st.tuples(st.lists(USUAL, max_size=25), RARE), min_size=1, max_size=5))


@dataclass
class Both:
    """The scripts and the model, asked in step."""

    admission: Admission
    clock: Clock
    model: GateModel
    grants: list[Grant] = field(default_factory=list)

    async def admit(self, ask: Ask) -> None:
        ask = replace(ask, attempt_id=AttemptId(f"att_{len(self.grants)}"))
        verdict, number, word = self.model.admit(ask)
        answer = await self.admission.gate.admit(ask)
        match answer:
            case Grant(stamp=stamp, wait_ms=wait_ms):
                assert ("grant", -(-number // 1_000), word) == (verdict, wait_ms, stamp)
                self.grants.append(answer)
            case Wait(retry_after_ms=wait_ms, reason=reason):
                assert ("wait", word) == (verdict, reason.value)
                assert abs(wait_ms - max(1, -(-number // 1_000))) <= 1
            case Refusal(reason=RefusalReason.PACE, opens_in_ms=opens_in_ms):
                assert (verdict, word) == ("refusal", "pace")
                assert abs(opens_in_ms - number / 1_000) <= 1
            case Refusal(reason=why):
                assert ("refusal", word) == (verdict, why.value)

    async def settle(self, which: tuple[int, dict[str, Any]]) -> None:
        number, end = which
        if self.grants:
            done = Settlement(grant=self.grants[-1 - number % len(self.grants)], **end)
            assert await self.admission.gate.settle(done) == self.model.settle(done)

    async def penalize(self, penalty: Penalty) -> None:
        await self.admission.gate.penalize(TARGET, penalty)
        self.model.penalize(penalty)

    async def configure(self, given_: tuple[TargetLimits, int]) -> None:
        assert await self.admission.gate.configure(*given_) == self.model.configure(*given_)

    async def expire(self, _: None) -> None:
        assert sorted(await self.admission.gate.expire()) == sorted(self.model.expire())

    async def pass_(self, microseconds: int) -> None:
        self.clock.now_us += microseconds
        self.model.now_us = self.clock.now_us

    async def step_back(self, microseconds: int) -> None:
        await self.pass_(-microseconds)

    async def compare(self) -> None:
        wire, keys = self.admission.wire, self.admission.keys
        packed = await wire.command("GET", keys.bucket(TARGET))
        assert (packed is None) == (self.model.state is None)
        if packed is not None and self.model.state is not None:
            for name, values in unpack(packed).items():
                assert list(values) == pytest.approx(self.model.state[name], abs=ONE_US, rel=RELATIVE), name
        frozen_by = await wire.command("GET", keys.frozen_by(TARGET))
        assert (frozen_by and frozen_by.decode()) == self.model.frozen_by
        live = await wire.command("ZRANGE", keys.in_flight(TARGET), 0, -1)
        assert {stamp.decode() for stamp in live} == set(self.model.in_flight)
        rates = await wire.command("GET", keys.tenant_rates(TenantId("greedy/one")))
        assert (rates is None) == (self.model.tenant.state is None)
        if rates is not None and self.model.tenant.state is not None:
            for name, values in tenants.unpack(rates).items():
                assert list(values) == pytest.approx(self.model.tenant.state[name], abs=ONE_US, rel=RELATIVE), name
        of_tenant = await wire.command("ZRANGE", keys.tenant_in_flight(TenantId("greedy/one")), 0, -1)
        assert {stamp.decode() for stamp in of_tenant} == set(self.model.tenant.in_flight)
        suspended, _ = await self.admission.ledger.suspended()
        assert set(suspended) == self.model.suspense
        for balance in await self.admission.gate.budgets(COUNTERS):
            purse = self.model.money.get((balance.scope, balance.window), {})
            assert balance.settled_nano_usd == purse.get("s", 0)
            assert balance.reserved_nano_usd == purse.get("r", 0)
        events = [(event.scope, event.window, event.percent) for event in await self.admission.ledger.events(1_000)]
        assert events == self.model.events


async def take(redis_url: str, steps: list[Step]) -> None:
    clock = Clock()
    async with open_admission(redis_url, clock, lifetime_seconds=LIFETIME_SECONDS) as admission:
        model = GateModel(now_us=START_US, lifetime_us=round(LIFETIME_SECONDS * 1_000_000))
        both = Both(admission, clock, model)
        doing: dict[str, Callable[[Any], Awaitable[None]]] = {
            "admit": both.admit,
            "settle": both.settle,
            "penalize": both.penalize,
            "configure": both.configure,
            "expire": both.expire,
            "pass": both.pass_,
            "step_back": both.step_back,
        }
        for name, given_ in steps:
            await doing[name](given_)
            await both.compare()


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=LIVES)
def test_the_scripts_and_the_model_agree_on_everything(redis_url: str, steps: list[Step]) -> None:
    asyncio.run(take(redis_url, steps))
