"""Writes Penstock's own resources. Amounts are decimal text, never floats."""

import orjson

from schemas.fingerprint import without_values
from schemas.jsons import JsonObject, on_one_line
from schemas.money import NanoUsd, usd_text
from schemas.replay import Estimate, Replay, ReplayOutcomes
from storage.batches.progress import BatchSummary
from storage.dead_letters.reads import DeadLetterGroup, DeadLetterView, WholeLetter
from storage.dead_letters.replay_rows import filter_json, patch_json
from storage.jobs.attempt_reads import AttemptView, StoryError, paid_twice_possible
from storage.jobs.reads import JobStory, JobView
from storage.tenancy.keys import StoredKey
from tasks.quotes.quote import Quoted


def job_object(job: JobView) -> JsonObject:
    """Return a job for a listing."""
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


def story_object(story: JobStory, *, content: bool = True) -> JsonObject:
    """Return a job with request, reply and attempts. Without `content`, texts of attempts are omitted."""
    return job_object(story.job) | {
        "budget_steps": story.job.budget_steps,
        "request": story.body,
        "reply": story.reply,
        "output": story.output,
        "served_by": story.served_by,
        "paid_twice_possible": paid_twice_possible(story.attempts),
        "first_error": _error_object(story.first_error, content=content),
        "last_error": _error_object(story.last_error, content=content),
        "attempts": [attempt_object(attempt, content=content) for attempt in story.attempts],
    }


def attempt_object(attempt: AttemptView, *, content: bool = True) -> JsonObject:
    """Return one attempt."""
    complaint = attempt.complaint
    hidden: JsonObject = {"request": None, "reply": None, "complaint": complaint and without_values(complaint)}
    if not content:
        hidden["error"] = attempt.error and {name: attempt.error.get(name) for name in ("kind", "status", "code")}
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
    } | ({} if content else hidden)


def _error_object(error: StoryError | None, *, content: bool) -> JsonObject | None:
    if error is None:
        return None
    message = error.message if content or error.message is None else without_values(error.message)
    return {"attempt_id": error.attempt_id, "outcome": error.outcome, "message": message, "at": error.at}


def dead_letter_object(letter: DeadLetterView) -> JsonObject:
    """Return a dead letter for a listing; `attempts` is their number."""
    return {
        "id": letter.id,
        "object": "dead_letter",
        "reason": letter.reason,
        "group": letter.fingerprint,
        "cause": letter.cause,
        "message": letter.message,
        "lane": letter.lane,
        "model": letter.model,
        "prompt": letter.prompt,
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
    """Return a group of dead letters; `model` is that of the example."""
    return {
        "id": group.fingerprint,
        "object": "dead_letter_group",
        "reason": group.reason,
        "cause": group.cause,
        "count": group.jobs,
        "example": group.example,
        "model": group.model,
        "latest_at": group.latest_at,
        "cost_usd": usd_text(group.spent_nano_usd),
    }


ATTEMPTS_CUT = "Too large for one line: what was said in its attempts is left out; ask for the letter by its id."


def whole_letter_object(letter: WholeLetter, *, content: bool) -> JsonObject:
    """Return a dead letter in the export format."""
    ceiling = letter.max_cost_nano_usd
    return dead_letter_object(letter.letter) | {
        "endpoint": letter.endpoint,
        "user": letter.user,
        "request": orjson.Fragment(on_one_line(letter.body)) if content else None,
        "contract": letter.contract,
        "max_tries": letter.max_tries,
        "max_reprompts": letter.max_reprompts,
        "max_cost_usd": None if ceiling is None else usd_text(ceiling),
        "attempts": [attempt_object(attempt, content=content) for attempt in letter.attempts],
        "attempt_count": letter.letter.attempts,
        **({"attempts_cut": ATTEMPTS_CUT} if letter.is_cut else {}),
    }


def replay_object(replay: Replay) -> JsonObject:
    """Return a replay's request and progress."""
    patch = patch_json(replay.patch)
    ceiling = patch.pop("max_cost_nano_usd", None)
    return {
        "id": replay.id,
        "object": "replay",
        "state": replay.state,
        "detail": replay.detail,
        "total": replay.total,
        "replayed": replay.replayed,
        "refused": replay.refused,
        "canary": replay.canary,
        "threshold": replay.threshold,
        "per_second": replay.per_second,
        "tenant_id": replay.tenant_id,
        "filter": filter_json(replay.which),
        "patch": patch if ceiling is None else patch | {"max_cost_usd": usd_text(ceiling)},
        "created_at": replay.created_at,
        "finished_at": replay.finished_at,
    }


def outcomes_object(outcomes: ReplayOutcomes) -> JsonObject:
    """Return the outcomes of a replay's jobs."""
    return {
        "jobs": outcomes.states,
        "canaries": outcomes.canaries,
        "refusals": [{"id": job_id, "why": why} for job_id, why in outcomes.refusals],
    }


def estimate_object(estimate: Estimate) -> JsonObject:
    """Return the number of jobs and the highest cost of a replay."""
    return {
        "object": "replay_estimate",
        "count": estimate.jobs,
        "priced": estimate.priced,
        "unpriced": estimate.unpriced,
        "refused": estimate.refused,
        "one_call_usd": usd_text(estimate.one_call_nano_usd),
        "worst_case_usd": usd_text(estimate.worst_case_nano_usd),
    }


def quote_object(quoted: Quoted) -> JsonObject:
    """Return the cost and duration of requests."""
    totals = quoted.totals
    return {
        "object": "quote",
        "requests": totals.requests,
        "unpriced": totals.unpriced,
        "likely_input_tokens": totals.likely_input_tokens,
        "likely_output_tokens": totals.likely_output_tokens,
        "most_input_tokens": totals.most_input_tokens,
        "most_output_tokens": totals.most_output_tokens,
        "likely_usd": usd_text(NanoUsd(totals.likely_nano_usd)),
        "one_call_usd": usd_text(NanoUsd(totals.one_call_nano_usd)),
        "worst_case_usd": usd_text(NanoUsd(totals.worst_case_nano_usd)),
        "seconds": None if quoted.seconds is None else round(quoted.seconds, 1),
        "held_by": quoted.held_by,
    }


def summary_object(summary: BatchSummary) -> JsonObject:
    """Return the counts of a batch."""
    return {
        "object": "batch_summary",
        "lanes": summary.lanes,
        "attempts": summary.attempts,
        "recoveries": summary.recoveries,
        "dead": summary.dead,
        "reprompted": summary.reprompted,
    }


def key_object(key: StoredKey) -> JsonObject:
    """Return a key without its secret."""
    return {
        "id": key.id,
        "object": "api_key",
        "tenant_id": key.tenant_id,
        "scopes": sorted(key.scopes),
        "prefix": key.prefix,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
