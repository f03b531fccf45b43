"""Turns a chat completion body into a job.

Penstock's own fields are removed from the body and from `metadata`; the rest is unchanged.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from config.amounts import SMALLEST_USD
from schemas.contract import OutputContract
from schemas.errors import InvalidRequest
from schemas.ids import BatchId, JobId, TenantId
from schemas.job import CHAT_COMPLETIONS, NewJob
from schemas.jsons import MAX_REQUEST_LEVELS, SORTED_KEYS, JsonObject, MalformedJson, dumps, parse
from schemas.lanes import Lane, named_lane
from schemas.money import NanoUsd, nano_from_usd, read_usd
from schemas.storable import refuse_long_name, refuse_unstorable
from schemas.tenants import EVERY_LANE

DEFAULT_DEADLINE_SECONDS = 24 * 3600
MAX_DEADLINE_SECONDS = 30 * 24 * 3600
MAX_MESSAGES = 2_000
MAX_KEY_CHARACTERS = 255
MAX_PROMPT_CHARACTERS = 128
MAX_COST_USD = 1_000_000_000
"""Far above any job, and far below what 64 bits of nano-dollars hold."""

EXTRAS = frozenset(
    {"lane", "deadline_seconds", "output_contract", "idempotency_key", "max_cost_usd", "prompt", "stream_validated"}
)
"""Penstock's own fields, which never reach a provider. The API reads `stream_validated`."""


class Vocabulary(Protocol):
    """Knows models and checks schemas."""

    def chain(self, model: str) -> object:
        """Raises UnknownModel."""

    def schema_complaint(self, schema: JsonObject) -> str | None:
        """Return why this is no usable JSON Schema, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Holds a request's tenant, ids, source and allowed lanes."""

    tenant_id: TenantId
    job_id: JobId
    default_lane: Lane
    idempotency_key: str | None = None
    batch_id: BatchId | None = None
    custom_id: str | None = None
    default_deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    lanes: frozenset[Lane] = EVERY_LANE


def parse_chat_request(body: Any, origin: Origin, vocabulary: Vocabulary, now: datetime) -> NewJob:  # noqa: ANN401 - unparsed
    """Turn a body into a job. Raises InvalidRequest with the field's name."""
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    request_digest = digest(body)
    extras = _extras(body)
    forwarded = _without_extras(body)
    model = _text(body, "model")
    refuse_long_name(model, "model")
    vocabulary.chain(model)
    _check_messages(body)
    _check_tier(body)
    prompt, key = extras.get("prompt"), extras.get("idempotency_key", origin.idempotency_key)
    seconds = _number(extras, "deadline_seconds", origin.default_deadline_seconds, MAX_DEADLINE_SECONDS)
    return NewJob(
        id=origin.job_id,
        tenant_id=origin.tenant_id,
        lane=named_lane(extras, origin.default_lane, origin.lanes),
        model=model,
        body=forwarded,
        request_digest=request_digest,
        endpoint=CHAT_COMPLETIONS,
        expires_at=now + timedelta(seconds=seconds),
        contract=_contract(body, extras, vocabulary.schema_complaint),
        idempotency_key=None if key is None else checked_name(key, "idempotency_key", MAX_KEY_CHARACTERS),
        batch_id=origin.batch_id,
        custom_id=origin.custom_id,
        user=_user(body),
        prompt=None if prompt is None else checked_name(prompt, "prompt", MAX_PROMPT_CHARACTERS, "name"),
        max_cost_nano_usd=max_cost(extras),
    )


def digest(body: JsonObject) -> str:
    """Return the hex SHA-256 of the request, independent of the order of keys.

    Raises InvalidRequest for NUL, lone surrogates, or more than 64 levels of nesting: they cannot be stored.
    """
    try:
        canonical = dumps(body, SORTED_KEYS)
    except TypeError as error:
        raise InvalidRequest(f"The request cannot be kept as JSON: {error}.") from error
    refuse_unstorable(body, canonical)
    return hashlib.sha256(canonical).hexdigest()


def _extras(body: JsonObject) -> JsonObject:
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidRequest("metadata must be an object.", param="metadata")
    return {name: source[name] for source in (metadata or {}, body) for name in EXTRAS if name in source}


def _without_extras(body: JsonObject) -> JsonObject:
    forwarded = {name: value for name, value in body.items() if name not in EXTRAS}
    metadata = forwarded.get("metadata")
    if isinstance(metadata, dict):
        rest = {name: value for name, value in metadata.items() if name not in EXTRAS}
        forwarded["metadata"] = rest
        if not rest:
            del forwarded["metadata"]
    return forwarded


def wants_validated_stream(body: JsonObject) -> bool:
    """Tell whether a stream waits for a valid reply. Raises InvalidRequest."""
    value = _extras(body).get("stream_validated", False)
    if isinstance(value, str) and value in {"true", "false"}:
        return value == "true"
    if not isinstance(value, bool):
        raise InvalidRequest("stream_validated must be true or false.", param="stream_validated")
    return value


def _text(body: JsonObject, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name} must be a non-empty string.", param=name)
    return value


def _check_messages(body: JsonObject) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages must be a non-empty array.", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"messages may hold at most {MAX_MESSAGES} entries.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest("Each message must be an object with a role.", param=f"messages[{index}]")


def _check_tier(body: JsonObject) -> None:
    """Prices are looked up by `service_tier`, so it must be a string."""
    if not isinstance(body.get("service_tier"), str | None):
        raise InvalidRequest("service_tier must be a string.", param="service_tier")


def _number(extras: JsonObject, name: str, default: float, most: float) -> float:
    value = extras.get(name, default)
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 < number <= most:
        raise InvalidRequest(f"{name} must be a number above 0 and at most {most:g}.", param=name)
    return number


def _user(body: JsonObject) -> str | None:
    """Return the end user; the provider reports a value that is no string."""
    user = body.get("user")
    if not isinstance(user, str):
        return None
    refuse_long_name(user, "user")
    return user


def checked_name(value: Any, param: str, most_characters: int, kind: str = "string") -> str:  # noqa: ANN401 - unparsed
    """Check a name. Raises InvalidRequest with the field's name."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{param} must be a {kind} of 1 to {most_characters} characters.", param=param)
    refuse_long_name(value, param, most_characters)
    return value


def max_cost(extras: JsonObject) -> NanoUsd | None:
    """Read the job's cost limit. Raises InvalidRequest."""
    if "max_cost_usd" not in extras:
        return None
    amount = read_usd(extras["max_cost_usd"])
    if amount is None or not 0 < amount <= MAX_COST_USD:
        raise InvalidRequest(
            f"max_cost_usd must be an amount from {SMALLEST_USD:f} to {MAX_COST_USD}.", param="max_cost_usd"
        )
    return nano_from_usd(amount)


def _contract(
    body: JsonObject, extras: JsonObject, complaint_about: Callable[[JsonObject], str | None]
) -> OutputContract | None:
    contract = _own_contract(extras) if "output_contract" in extras else _standard_contract(body)
    complaint = complaint_about(contract.schema) if contract else None
    if complaint:
        param = "output_contract" if "output_contract" in extras else "response_format"
        raise InvalidRequest(f"The JSON Schema of the output is not usable: {complaint}", param=param)
    return contract


def _own_contract(extras: JsonObject) -> OutputContract:
    contract = extras["output_contract"]
    if isinstance(contract, str):
        try:
            contract = parse(contract, most_levels=MAX_REQUEST_LEVELS)
        except MalformedJson as error:
            raise InvalidRequest(f"output_contract is not JSON: {error}.", param="output_contract") from error
        refuse_unstorable({"output_contract": contract})
    if not isinstance(contract, dict):
        raise InvalidRequest("output_contract must be an object.", param="output_contract")
    schema = contract.get("schema", contract)
    if not isinstance(schema, dict):
        raise InvalidRequest("output_contract.schema must be an object.", param="output_contract")
    return OutputContract(schema=schema, name=str(contract.get("name", "answer")))


def _standard_contract(body: JsonObject) -> OutputContract | None:
    response_format = body.get("response_format")
    if response_format is None:
        return None
    if not isinstance(response_format, dict):
        raise InvalidRequest("response_format must be an object.", param="response_format")
    if response_format.get("type") == "json_object":
        return OutputContract(schema={"type": "object"}, strict=False)
    if response_format.get("type") != "json_schema":
        return None
    described = response_format.get("json_schema")
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        raise InvalidRequest(
            "response_format.json_schema.schema must be an object.", param="response_format.json_schema"
        )
    return OutputContract(
        schema=described["schema"],
        name=str(described.get("name", "answer")),
        strict=bool(described.get("strict", False)),
    )
