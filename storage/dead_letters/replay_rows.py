"""Converts replays to rows and back. Runs no query."""

from dataclasses import asdict
from datetime import datetime

from schemas.decision import DeadReason
from schemas.ids import BatchId, JobId, TenantId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.replay import DeadLetters, NewReplay, Patch, PatchedJob, Replay
from storage.database.engine import dumps
from storage.database.mapping import read_as
from storage.database.statements import Row
from storage.rows import contract_from, contract_json


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
    return read_as(Replay, row, which=_filter_from(row["filter"]), patch=_patch_from(row["patch"]))


def mended_parameters(patched_job: PatchedJob) -> JsonObject:
    """Return column values of a letter that is queued again."""
    return {
        "id": patched_job.letter.id,
        "generation": patched_job.letter.generation,
        "model": patched_job.model,
        "contract": dumps(contract_json(patched_job.contract)),
        "body": dumps(patched_job.body),
    }


def filter_json(which: DeadLetters) -> JsonObject:
    """Write a filter as JSON without unset fields."""
    return {name: value for name, value in asdict(which).items() if value is not None}


def patch_json(patch: Patch) -> JsonObject:
    """Write a patch as JSON without unset fields."""
    values = asdict(patch) | {"contract": contract_json(patch.contract)}
    return {name: value for name, value in values.items() if value not in (None, {})}


def _filter_from(value: JsonObject) -> DeadLetters:
    ids, reason = value.get("ids"), value.get("reason")
    tenant, batch = value.get("tenant_id"), value.get("batch_id")
    return DeadLetters(
        tenant_id=TenantId(tenant) if tenant else None,
        ids=None if ids is None else tuple(JobId(job_id) for job_id in ids),
        reason=None if reason is None else DeadReason(reason),
        fingerprint=value.get("fingerprint"),
        batch_id=BatchId(batch) if batch else None,
        model=value.get("model"),
        prompt=value.get("prompt"),
        since_at=_moment(value.get("since_at")),
        until_at=_moment(value.get("until_at")),
    )


def _patch_from(value: JsonObject) -> Patch:
    lane = value.get("lane")
    return Patch(
        deadline_seconds=value["deadline_seconds"],
        body=value.get("body"),
        model=value.get("model"),
        lane=None if lane is None else Lane(lane),
        parameters=value.get("parameters", {}),
        contract=contract_from(value.get("contract")),
        message=value.get("message"),
        max_cost_nano_usd=value.get("max_cost_nano_usd"),
    )


def _moment(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
