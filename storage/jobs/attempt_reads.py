"""Turns rows of attempts into views and errors. Runs no query."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import orjson

from schemas.ids import AttemptId
from schemas.jsons import JsonObject, on_one_line
from schemas.money import NanoUsd
from storage.database.mapping import read_as
from storage.database.statements import Row

Content: TypeAlias = JsonObject | orjson.Fragment
"""Parsed JSON, or text from Postgres that is written out unchanged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptView:
    """Shows one attempt with its request and reply."""

    id: AttemptId
    account: str
    model: str
    state: str
    outcome: str | None
    cost_nano_usd: NanoUsd
    reserved_nano_usd: NanoUsd
    usage: JsonObject | None
    request: Content | None
    reply: Content | None
    error: JsonObject | None
    recovery: str | None
    complaint: str | None
    provider_request_id: str | None
    latency_ms: int | None
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryError:
    """Holds a complaint about a reply, or a failure without a reply."""

    attempt_id: AttemptId
    outcome: str | None
    message: str | None
    at: datetime


UNSURE_ENDS = frozenset(
    {
        "worker_lost",
        "handed_back",
        "late",
        "ambiguous",
        "cut",
        "unknown",
        "internal_error",
        "post",
        "presumed",
        "operator",
    }
)
"""Calls that may have been billed without a used answer; the last three were unresolved charges."""


def paid_twice_possible(attempts: Sequence[AttemptView]) -> bool:
    """Tell whether several attempts may have been paid, one of them with an unsure outcome."""
    paid = [attempt for attempt in attempts if attempt.state in {"posted", "suspense"}]
    return len(paid) > 1 and any(attempt.outcome in UNSURE_ENDS for attempt in paid)


def errors_of(attempts: Sequence[AttemptView]) -> Iterator[StoryError]:
    """List errors of these attempts, in order."""
    for attempt in attempts:
        if attempt.outcome not in {None, "valid"}:
            yield StoryError(
                attempt_id=attempt.id,
                outcome=attempt.outcome,
                message=attempt.complaint or (attempt.error or {}).get("message"),
                at=attempt.closed_at or attempt.opened_at,
            )


def attempt_text(row: Row) -> AttemptView:
    """Read an attempt whose request and reply are JSON text."""
    return read_as(AttemptView, row, request=_text(row["request"]), reply=_text(row["reply"]))


def _text(value: str | None) -> orjson.Fragment | None:
    return None if value is None else orjson.Fragment(on_one_line(value))
