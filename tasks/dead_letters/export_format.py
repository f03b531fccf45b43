"""Parses a line of an export into a dead letter.

Attempts are not imported: they were paid for elsewhere. A replay may change an unconfigured model.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from schemas.bounds import MAX_NODES, check_nodes
from schemas.contract import OutputContract
from schemas.decision import DeadReason
from schemas.errors import InvalidRequest
from schemas.ids import ID, JobId, TenantId
from schemas.job import CHAT_COMPLETIONS, DEFAULT_MAX_REPROMPTS, DEFAULT_MAX_TRIES, NewJob
from schemas.jsons import JsonObject, MalformedJson, parse
from schemas.lanes import Lane, named_lane
from schemas.storable import MAX_NAME_CHARACTERS, refuse_long_name, refuse_unstorable
from schemas.tenants import EVERY_LANE
from tasks.batches.terms import checked_endpoint
from tasks.requests.chat import Origin, parse_chat_request

MAX_MESSAGE_CHARACTERS = 4_000
"""Penstock's own messages have a few hundred characters."""
MAX_TRIES = 100
"""Limit of tries and of reprompts; a larger number is a mistake."""

TERMS = ("prompt", "max_cost_usd")
"""Fields in the body of a submitted request, and beside it in an export."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Holds the importer and its limits.

    A `tenant_id` of None is an operator, who may name any of the `tenants` in a line.
    """

    tenant_id: TenantId | None
    default_tenant_id: TenantId
    tenants: Collection[str]
    schema_complaint: Callable[[JsonObject], str | None]
    lanes: frozenset[Lane] = EVERY_LANE
    most_nodes: int = MAX_NODES

    def chain(self, _model: str) -> object:
        """Accept any model."""
        return ()


class Letter(NamedTuple):
    """Holds a job that died in another installation."""

    job: NewJob
    reason: str
    message: str | None


def letter_from(line: bytes, reader: Reader, now: datetime) -> Letter:
    """Parse one line. Raises InvalidRequest."""
    check_nodes(line, reader.most_nodes)
    entry = _parsed(line)
    request = entry.get("request")
    if not isinstance(request, dict):
        raise InvalidRequest(
            "request must be an object; an export without content cannot be imported.", param="request"
        )
    origin = Origin(
        tenant_id=_tenant(entry, reader),
        job_id=_id(entry),
        default_lane=named_lane(entry, Lane.NORMAL, reader.lanes),
        custom_id=_text(entry, "custom_id"),
        lanes=reader.lanes,
    )
    terms = {name: entry[name] for name in TERMS if entry.get(name) is not None}
    for name in ("model", "prompt"):
        _text(request | terms, name)
    job = parse_chat_request(request | terms, origin, reader, now)
    job = replace(
        job,
        endpoint=checked_endpoint(entry.get("endpoint") or CHAT_COMPLETIONS),
        contract=_contract(entry, reader) or job.contract,
        idempotency_key=None,
        request_digest=f"imported:{job.request_digest}",
        user=_text(entry, "user"),
        max_tries=_count(entry, "max_tries", DEFAULT_MAX_TRIES, least=1),
        max_reprompts=_count(entry, "max_reprompts", DEFAULT_MAX_REPROMPTS, least=0),
    )
    return Letter(job=job, reason=_reason(entry), message=_text(entry, "message", MAX_MESSAGE_CHARACTERS))


def _parsed(line: bytes) -> JsonObject:
    try:
        entry: Any = parse(line)
    except MalformedJson as error:
        raise InvalidRequest(f"it is not JSON: {error}.") from error
    if not isinstance(entry, dict):
        raise InvalidRequest("it must be a JSON object.")
    return entry


def _tenant(entry: JsonObject, reader: Reader) -> TenantId:
    named = _text(entry, "tenant_id")
    if reader.tenant_id is not None:
        return reader.tenant_id
    if named is not None and named not in reader.tenants:
        raise InvalidRequest(f"there is no tenant {named!r} here.", param="tenant_id")
    return TenantId(named) if named else reader.default_tenant_id


def _id(entry: JsonObject) -> JobId:
    named = _text(entry, "id")
    if named is None or not ID.fullmatch(named):
        raise InvalidRequest("id must be the id of a job.", param="id")
    return JobId(named)


def _reason(entry: JsonObject) -> str:
    named = entry.get("reason", entry.get("dead_reason"))
    if named not in tuple(DeadReason):
        raise InvalidRequest("reason must be one that a job can die of.", param="reason")
    return str(named)


def _contract(entry: JsonObject, reader: Reader) -> OutputContract | None:
    contract = entry.get("contract")
    if contract is None:
        return None
    if not isinstance(contract, dict) or not isinstance(contract.get("schema"), dict):
        raise InvalidRequest("contract.schema must be an object.", param="contract")
    refuse_unstorable(contract)
    if complaint := reader.schema_complaint(contract["schema"]):
        raise InvalidRequest(f"contract: {complaint}", param="contract")
    return OutputContract(
        schema=contract["schema"], name=str(contract.get("name", "answer")), strict=contract.get("strict") is not False
    )


def _text(entry: JsonObject, name: str, most_characters: int = MAX_NAME_CHARACTERS) -> str | None:
    value = entry.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text.", param=name)
    refuse_long_name(value, name, most_characters)
    return value


def _count(entry: JsonObject, name: str, default: int, *, least: int) -> int:
    value = entry.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_TRIES:
        raise InvalidRequest(f"{name} must be a whole number from {least} to {MAX_TRIES}.", param=name)
    return value
