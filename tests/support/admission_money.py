"""Money of admission: three counters, and what tests reserve, settle and read of them."""

from collections.abc import Sequence

from admission.connect import Admission
from admission.limits import Balance
from schemas.admission import BudgetCounter, Grant, SettleKind, Settlement
from schemas.money import NanoUsd
from tests.support.admission_fixture import a_counter, an_ask, granted

GLOBAL, TENANT, MONTH = a_counter(1_000), a_counter(650, scope="tenant:a"), a_counter(10_000, window="2026-11@UTC")
COUNTERS = (GLOBAL, TENANT, MONTH)


async def money(admission: Admission, counter: BudgetCounter) -> tuple[int, int]:
    [balance] = await admission.gate.budgets([counter])
    return balance.settled_nano_usd, balance.reserved_nano_usd


async def reserve(
    admission: Admission, cost: int, counters: Sequence[BudgetCounter] = COUNTERS, name: str = "x"
) -> Grant:
    ask = an_ask(name, cost_nano_usd=NanoUsd(cost), counters=tuple(counters))
    return granted(await admission.gate.admit(ask))


def post(grant: Grant, cost: int) -> Settlement:
    return Settlement(grant=grant, kind=SettleKind.POST, actual_tokens=grant.tokens, actual_nano_usd=NanoUsd(cost))


def release(grant: Grant) -> Settlement:
    return Settlement(grant=grant, kind=SettleKind.RELEASE)


def balance_of(counter: BudgetCounter, settled: int, reserved: int) -> Balance:
    return Balance(
        scope=counter.scope,
        window=counter.window,
        limit_nano_usd=None,
        settled_nano_usd=NanoUsd(settled),
        reserved_nano_usd=NanoUsd(reserved),
    )
