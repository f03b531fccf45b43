"""Admission on a real server, under a clock that stands still until a test moves it."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from admission.connect import Admission, connected
from admission.gate import ORIGIN
from admission.limits import TargetLimits
from schemas.admission import Ask, BudgetCounter, Grant, Refusal, Wait
from schemas.ids import AttemptId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd

TARGET = Target(account="acme", model="m")
SECOND_US = 1_000_000
START_US = 30_000_000 * SECOND_US


@dataclass
class Clock:
    """Microseconds of the Redis server's clock, moved by hand."""

    now_us: int = START_US

    def __call__(self) -> int:
        return self.now_us

    def pass_seconds(self, seconds: float) -> None:
        self.now_us += round(seconds * SECOND_US)


@asynccontextmanager
async def open_admission(redis_url: str, clock: Clock, *, lifetime_seconds: float = 660.0) -> AsyncIterator[Admission]:
    """Keys of its own, its ledger open under epoch 1 and its target without any limit."""
    namespace = f"t{uuid.uuid4().hex}"
    async with connected(
        redis_url, namespace=namespace, lifetime_seconds=lifetime_seconds, clock_us=clock
    ) as admission:
        assert await admission.ledger.rebuild(1, [], [])
        yield admission
        names = await admission.wire.command("KEYS", f"{{penstock}}:{namespace}:*")
        if names:
            await admission.wire.command("DEL", *names)


def an_ask(number: int | str = 1, **changes: object) -> Ask:
    """A normal ask for 100 tokens that costs nothing; name what differs."""
    plain = Ask(
        attempt_id=AttemptId(f"att_{number}"),
        target=TARGET,
        lane=Lane.NORMAL,
        tokens=100,
        cost_nano_usd=NanoUsd(0),
        epoch=1,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # names are checked by the dataclass


def moment_of(now_us: int) -> datetime:
    """What a wall clock says when the server's says this."""
    return ORIGIN + timedelta(microseconds=now_us)


def a_counter(limit: int, scope: str = "global", window: str = "2026-11-24@UTC") -> BudgetCounter:
    return BudgetCounter(scope=scope, window=window, limit_nano_usd=NanoUsd(limit))


def limits(**changes: object) -> TargetLimits:
    """Limits of the one target: 60,000 tokens a minute, so 1 token per millisecond, unless said otherwise."""
    facts: dict[str, object] = {"target": TARGET, "tokens_per_minute": 60_000, "burst_ms": 1_000}
    return TargetLimits(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass


def granted(answer: Grant | Wait | Refusal) -> Grant:
    assert isinstance(answer, Grant), answer
    return answer


def waiting(answer: Grant | Wait | Refusal) -> Wait:
    assert isinstance(answer, Wait), answer
    return answer


def refused(answer: Grant | Wait | Refusal) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer
