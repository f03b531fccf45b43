"""Converts replays to rows and back. Runs no query."""

from dataclasses import asdict

from pydantic import TypeAdapter

from schemas.jsons import JsonObject
from schemas.replay import DeadLetters, NewReplay, Patch, Replay, ReplayedLetter
from storage.database.engine import dumps
from storage.database.mapping import read_as, values_of
from storage.database.statements import Row
from storage.rows import contract_json

FILTER = TypeAdapter(DeadLetters)
PATCH = TypeAdapter(Patch)


def replay_parameters(replay: NewReplay) -> JsonObject:
    """Return column values of a new replay."""
    return {
        "id": replay.id,
        "tenant_id": replay.tenant_id,
        "idempotency_key": replay.idempotency_key,
        "filter": dumps(filter_json(replay.which)),
        "patch": dumps(patch_json(replay.patch)),
        "canary": replay.canary,
        "threshold": replay.threshold,
        "per_second": replay.per_second,
    }


def replay_from(row: Row) -> Replay:
    """Read a replay with the number of letters that it may move now."""
    return read_as(Replay, row, which=FILTER.validate_python(row["filter"]), patch=PATCH.validate_python(row["patch"]))


def mended_parameters(patched_job: ReplayedLetter) -> JsonObject:
    """Return column values of a letter that is queued again."""
    return values_of(patched_job) | {
        "contract": dumps(contract_json(patched_job.contract)),
        "body": dumps(patched_job.body),
    }


def filter_json(which: DeadLetters) -> JsonObject:
    """Write a filter as JSON without unset fields."""
    return {name: value for name, value in asdict(which).items() if value is not None}


def patch_json(patch: Patch) -> JsonObject:
    """Write a patch as JSON without unset fields."""
    deadline_seconds = float(patch.deadline_seconds)  # as it is read, because two texts are compared
    fields = asdict(patch) | {"deadline_seconds": deadline_seconds}
    return {name: value for name, value in fields.items() if value not in (None, {})}
