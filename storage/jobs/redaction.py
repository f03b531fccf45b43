"""Drops prompts and replies from attempts when `privacy.store_content = false`. Pure.

Complaints keep path and rule; errors keep kind, status and code.
"""

from dataclasses import replace

from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import DeadLetter, Decision
from schemas.fingerprint import cause_of, without_values
from schemas.jsons import JsonObject
from storage.jobs.record import Record


def without_request(attempt: OpenedAttempt) -> OpenedAttempt:
    """Drop the attempt's request."""
    return replace(attempt, request=None)


def without_replies(record: Record) -> Record:
    """Drop the reply and quoted values."""
    closed = record.closed and _redacted_attempt(record.closed)
    return replace(record, closed=closed, decision=_redacted_decision(record.decision))


def _redacted_attempt(closed: ClosedAttempt) -> ClosedAttempt:
    complaint = closed.complaint and without_values(closed.complaint)
    return replace(closed, reply=None, complaint=complaint, error=closed.error and _redacted_error(closed.error))


def _redacted_error(error: JsonObject) -> JsonObject:
    message = error.get("message")
    return error | {"message": message and without_values(str(message)), "partial_text": None}


def _redacted_decision(decision: Decision) -> Decision:
    if not isinstance(decision, DeadLetter):
        return decision
    return replace(decision, message=cause_of(decision.reason.value, decision.message).words)
