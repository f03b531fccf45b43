"""Builds valid, distinct jobs and attempts to store; tests and benchmarks vary single fields."""

import uuid
from datetime import UTC, datetime, timedelta

from schemas.admission import Grant
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.contract import OutputContract
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Lease, NewJob, Target
from schemas.lanes import Lane
from schemas.money import NanoUsd, Price, Usage

TARGET = Target(account="openai", model="m")
PRICE = Price(input_nano_usd=1_000_000, cached_input_nano_usd=0, output_nano_usd=1_000_000, source="test")


def new_job(**changes: object) -> NewJob:
    """Return a job with a deadline in an hour."""
    facts: dict[str, object] = {
        "id": JobId(f"job_{uuid.uuid4().hex}"),
        "tenant_id": TenantId("default"),
        "lane": Lane.NORMAL,
        "model": "small",
        "body": {"model": "small", "messages": [{"role": "user", "content": "häl\u2028lo"}]},
        "request_digest": "digest",
        "expires_at": datetime.now(UTC) + timedelta(hours=1),
        "contract": OutputContract(schema={"type": "object"}),
    }
    return NewJob(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass


def opened(lease: Lease, *, epoch: int = 1) -> OpenedAttempt:
    """Return an attempt of a leased job with 500 nano-dollars reserved."""
    attempt_id = AttemptId(f"att_{uuid.uuid4().hex}")
    grant = Grant(stamp=attempt_id, wait_ms=0, tokens=100, cost_nano_usd=NanoUsd(500), target=TARGET, epoch=epoch)
    return OpenedAttempt(
        id=attempt_id,
        job_id=lease.job_id,
        fence=lease.fence,
        target=TARGET,
        grant=grant,
        price=PRICE,
        request={"model": "m"},
        opened_at=datetime.now(UTC),
    )


def closed(attempt: OpenedAttempt, *, cost: int = 42, state: AttemptState = AttemptState.POSTED) -> ClosedAttempt:
    """Return the end of an attempt that cost 42 nano-dollars."""
    return ClosedAttempt(
        id=attempt.id,
        state=state,
        outcome="valid",
        cost_nano_usd=NanoUsd(cost),
        closed_at=datetime.now(UTC),
        usage=Usage(input_tokens=30, output_tokens=12),
        reply={"id": "chatcmpl-1", "model": "m"},
    )
