"""How our own resources are written: jobs, attempts, dead letters and keys. Amounts are decimal text, never floats."""

from schemas.jsons import JsonObject
from schemas.money import usd_text
from storage.dead_letters import DeadLetterGroup, DeadLetterView
from storage.keys import StoredKey
from storage.reads import AttemptView, JobStory, JobView
from storage.summaries import BatchSummary


def job_object(job: JobView) -> JsonObject:
    """A job as a listing shows it."""
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "lane": job.lane,
        "model": job.model,
        "custom_id": job.custom_id,
        "batch_id": job.batch_id,
        "tenant_id": job.tenant_id,
        "tries": job.tries,
        "deaths": job.deaths,
        "cost_usd": usd_text(job.spent_nano_usd),
        "wait_reason": job.wait_reason,
        "wake_at": job.wake_at,
        "dead_reason": job.dead_reason,
        "message": job.message,
        "created_at": job.created_at,
        "expires_at": job.expires_at,
        "rested_at": job.rested_at,
    }


def story_object(story: JobStory) -> JsonObject:
    """A job with its request, its answer and all its attempts."""
    return job_object(story.job) | {
        "request": story.body,
        "reply": story.reply,
        "output": story.output,
        "served_by": story.served_by,
        "attempts": [attempt_object(attempt) for attempt in story.attempts],
    }


def attempt_object(attempt: AttemptView) -> JsonObject:
    """One call: what was sent, what came back, what was wrong with it, what it cost."""
    return {
        "id": attempt.id,
        "target": f"{attempt.account}/{attempt.model}",
        "state": attempt.state,
        "outcome": attempt.outcome,
        "complaint": attempt.complaint,
        "error": attempt.error,
        "recovery": attempt.recovery,
        "cost_usd": usd_text(attempt.cost_nano_usd),
        "reserved_usd": usd_text(attempt.reserved_nano_usd),
        "usage": attempt.usage,
        "request": attempt.request,
        "reply": attempt.reply,
        "provider_request_id": attempt.provider_request_id,
        "latency_ms": attempt.latency_ms,
        "opened_at": attempt.opened_at,
        "closed_at": attempt.closed_at,
    }


def dead_letter_object(letter: DeadLetterView) -> JsonObject:
    """A dead letter as a listing shows it; `attempts` counts them."""
    return {
        "id": letter.id,
        "object": "dead_letter",
        "reason": letter.reason,
        "message": letter.message,
        "lane": letter.lane,
        "model": letter.model,
        "custom_id": letter.custom_id,
        "batch_id": letter.batch_id,
        "tenant_id": letter.tenant_id,
        "tries": letter.tries,
        "attempts": letter.attempts,
        "cost_usd": usd_text(letter.spent_nano_usd),
        "created_at": letter.created_at,
        "rested_at": letter.rested_at,
    }


def group_object(group: DeadLetterGroup) -> JsonObject:
    """How many died of one thing."""
    return {
        "id": f"{group.reason}/{group.model}",
        "reason": group.reason,
        "model": group.model,
        "count": group.jobs,
        "example": group.example,
        "cost_usd": usd_text(group.spent_nano_usd),
    }


def summary_object(summary: BatchSummary) -> JsonObject:
    """The counts of a batch."""
    return {
        "object": "batch_summary",
        "lanes": summary.lanes,
        "attempts": summary.attempts,
        "recoveries": summary.recoveries,
        "dead": summary.dead,
        "reprompted": summary.reprompted,
    }


def key_object(key: StoredKey) -> JsonObject:
    """A key without its secret, which nobody has kept."""
    return {
        "id": key.id,
        "object": "api_key",
        "tenant_id": key.tenant_id,
        "scopes": sorted(key.scopes),
        "prefix": key.prefix,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
