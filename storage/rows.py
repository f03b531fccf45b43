"""Converts rows to values and values to parameters. Runs no query."""

from typing import Any

from schemas.accepted import Submission
from schemas.admission import BudgetCounter, Grant
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt, Unsettled
from schemas.contract import OutputContract
from schemas.job import Job, NewJob, Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Price, Usage
from storage.database.engine import dumps
from storage.database.mapping import read_as, values_of
from storage.database.statements import Row

CHARACTERS_PER_TOKEN = 4
USUAL_OUTPUT_TOKENS = 1_024
"""Assumed where a request names no output limit, as by the catalogue."""

MOST_WORK_TOKENS = 10_000_000
"""Far above any model's context, and far below what the column holds."""

NEW_JOB = """
    id text, tenant_id text, batch_id text, custom_id text, lane text, model text, endpoint text, end_user text,
    expires_at timestamptz, max_tries int, max_reprompts int, max_cost_nano_usd bigint, idempotency_key text,
    request_digest text, contract text, body text, prompt text, work_tokens int"""
"""Declares the columns of `parameters_of`."""


def job_from(row: Row) -> Job:
    """Read a job joined with its body."""
    others = {"user": row["end_user"], "contract": contract_from(row["contract"])}
    return read_as(Job, row, **others, in_suspense=bool(row.get("in_suspense")))


def parameters_of(job: NewJob) -> JsonObject:
    """Return column values of a new job."""
    body = dumps(job.body)
    return values_of(job) | {
        "end_user": job.user,
        "contract": dumps(contract_json(job.contract)),
        "body": body,
        "work_tokens": work_tokens(job.body, len(body or "")),
    }


def work_tokens(body: JsonObject, characters: int) -> int:
    """Estimate tokens for a tenant's fair share. Never used for money."""
    limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    output = next((count for count in limits if isinstance(count, int) and count > 0), USUAL_OUTPUT_TOKENS)
    answers = body.get("n")
    many = answers if isinstance(answers, int) and answers > 0 else 1
    return min(characters // CHARACTERS_PER_TOKEN + output * many, MOST_WORK_TOKENS)


def accepted_from(row: Row, *, repeated: bool) -> Submission:
    """Read a submission from a row of `jobs`."""
    return read_as(Submission, row, job_id=row["id"], repeated=repeated)


def contract_from(value: JsonObject | None) -> OutputContract | None:
    """Read the contract that `contract_json` wrote."""
    return None if value is None else read_as(OutputContract, value)


def opened_parameters(opened: OpenedAttempt) -> JsonObject:
    """Return column values of an attempt before its call."""
    grant = opened.grant
    return {
        **values_of(opened),
        **values_of(opened.target),
        "epoch": grant.epoch,
        "stamp": grant.stamp,
        "counters": dumps([[counter.scope, counter.window, counter.limit_nano_usd] for counter in grant.counters]),
        "reserved_tokens": grant.tokens,
        "reserved_nano_usd": grant.cost_nano_usd,
        "price": dumps(_price_json(opened.price)),
        "request": dumps(opened.request),
    }


def closed_parameters(closed: ClosedAttempt) -> JsonObject:
    """Return column values of an attempt after its call."""
    return values_of(closed) | {
        "booked_nano_usd": closed.cost_nano_usd if closed.state is AttemptState.POSTED else None,
        "usage": dumps(_usage_json(closed.usage)),
        "reply": dumps(closed.reply),
        "error": dumps(closed.error),
        "price": None if closed.price is None else dumps(_price_json(closed.price)),
    }


def counters_from(value: list[list[Any]]) -> tuple[BudgetCounter, ...]:
    """Read a reservation's budget counters."""
    return tuple(
        BudgetCounter(scope=scope, window=window, limit_nano_usd=NanoUsd(limit)) for scope, window, limit in value
    )


def grant_from(row: Row) -> Grant:
    """Read an attempt's grant, so that any process can settle its reservation."""
    return Grant(
        stamp=row["stamp"],
        wait_ms=0,
        tokens=row["reserved_tokens"],
        cost_nano_usd=NanoUsd(row["reserved_nano_usd"]),
        target=Target(account=row["account"], model=row["model"]),
        epoch=row["epoch"],
        counters=counters_from(row["counters"]),
    )


def opened_from(row: Row) -> OpenedAttempt:
    """Read an attempt as it was before its call."""
    price = row["price"]
    return read_as(
        OpenedAttempt,
        row,
        target=read_as(Target, row),
        grant=grant_from(row),
        price=Price(
            input_nano_usd=price["input"],
            cached_input_nano_usd=price["cached_input"],
            cache_write_nano_usd=price.get("cache_write"),
            output_nano_usd=price["output"],
            source=price["source"],
        ),
    )


def unsettled_from(row: Row) -> Unsettled:
    """Read an attempt of unknown cost."""
    return read_as(Unsettled, row, state=AttemptState(row["attempt_state"]), grant=grant_from(row))


def contract_json(contract: OutputContract | None) -> JsonObject | None:
    """Write the contract for its column."""
    return None if contract is None else values_of(contract)


def usage_from(value: JsonObject) -> Usage:
    """Read token usage; older versions wrote fewer kinds."""
    return read_as(Usage, {"cached_input_tokens": 0, "cache_write_tokens": None, "reasoning_tokens": 0} | value)


def _usage_json(usage: Usage | None) -> JsonObject | None:
    if usage is None:
        return None
    return {name: tokens for name, tokens in values_of(usage).items() if tokens is not None}


def _price_json(price: Price) -> JsonObject:
    return {name.removesuffix("_nano_usd"): part for name, part in values_of(price).items() if part is not None}
