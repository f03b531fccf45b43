"""A request body becomes a job: the same rules at every door (HTTP, Celery, a line of a batch file).

Extras of ours are taken out of the body and out of `metadata`; everything else is kept as it came.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import orjson

from schemas.contract import OutputContract
from schemas.errors import InvalidRequest
from schemas.ids import BatchId, JobId, TenantId
from schemas.job import CHAT_COMPLETIONS, NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd, nano_from_usd

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
"""Fields of ours, in the body or in `metadata`; they never reach a provider. `stream_validated` is read by the door."""


class Vocabulary(Protocol):
    """What parsing has to know: whether a model exists, and whether a schema is one."""

    def chain(self, model: str) -> object:
        """Raises UnknownModel."""

    def schema_complaint(self, schema: JsonObject) -> str | None:
        """Why this is no usable JSON Schema, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who asks, through which door."""

    tenant_id: TenantId
    job_id: JobId
    default_lane: Lane
    idempotency_key: str | None = None
    batch_id: BatchId | None = None
    custom_id: str | None = None
    default_deadline_seconds: float = DEFAULT_DEADLINE_SECONDS


def parse_chat_request(body: Any, origin: Origin, vocabulary: Vocabulary, now: datetime) -> NewJob:  # noqa: ANN401 - unparsed
    """Turn a body into a job. Raises InvalidRequest with the name of the field that must change."""
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    extras = _extras(body)
    kept = _without_extras(body)
    model = _text(body, "model")
    vocabulary.chain(model)
    _check_messages(body)
    seconds = _number(extras, "deadline_seconds", origin.default_deadline_seconds, MAX_DEADLINE_SECONDS)
    return NewJob(
        id=origin.job_id,
        tenant_id=origin.tenant_id,
        lane=_lane(extras, origin.default_lane),
        model=model,
        body=kept,
        request_digest=digest(body),
        endpoint=CHAT_COMPLETIONS,
        expires_at=now + timedelta(seconds=seconds),
        contract=_contract(body, extras, vocabulary.schema_complaint),
        idempotency_key=_key(extras, origin.idempotency_key),
        batch_id=origin.batch_id,
        custom_id=origin.custom_id,
        user=_user(body),
        prompt=_prompt(extras),
        max_cost_nano_usd=max_cost(extras),
    )


def digest(body: JsonObject) -> str:
    """Hex sha256 of the canonical request: equal for equal requests, whatever the order of their keys.

    Raises InvalidRequest for what cannot be stored: more than 254 levels, integers beyond 64 bits, half characters.
    """
    try:
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise InvalidRequest(f"The request cannot be kept as JSON: {error}.") from error
    return hashlib.sha256(canonical).hexdigest()


def _extras(body: JsonObject) -> JsonObject:
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidRequest("metadata must be an object.", param="metadata")
    return {name: source[name] for source in (metadata or {}, body) for name in EXTRAS if name in source}


def _without_extras(body: JsonObject) -> JsonObject:
    kept = {name: value for name, value in body.items() if name not in EXTRAS}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict):
        rest = {name: value for name, value in metadata.items() if name not in EXTRAS}
        kept["metadata"] = rest
        if not rest:
            del kept["metadata"]
    return kept


def wants_validated_stream(body: JsonObject) -> bool:
    """Whether a stream shall begin only when the whole reply is known to meet its contract. Raises InvalidRequest."""
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


def _lane(extras: JsonObject, default: Lane) -> Lane:
    value = extras.get("lane", default)
    if value not in tuple(Lane):
        raise InvalidRequest(f"lane must be one of {', '.join(Lane)}.", param="lane")
    return Lane(value)


def _number(extras: JsonObject, name: str, default: float, most: float) -> float:
    value = extras.get(name, default)
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number <= most:
        raise InvalidRequest(f"{name} must be a number above 0 and at most {most:g}.", param=name)
    return number


def _user(body: JsonObject) -> str | None:
    """The end user; no column of text can hold a NUL."""
    user = body.get("user")
    if isinstance(user, str) and "\0" in user:
        raise InvalidRequest("user must not hold NUL characters.", param="user")
    return user if isinstance(user, str) else None


def _prompt(extras: JsonObject) -> str | None:
    """The name under which the money of this kind of request is counted."""
    prompt = extras.get("prompt")
    if prompt is None:
        return None
    if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_PROMPT_CHARACTERS or "\0" in prompt:
        raise InvalidRequest(f"prompt must be a name of 1 to {MAX_PROMPT_CHARACTERS} characters.", param="prompt")
    return prompt


def _key(extras: JsonObject, given: str | None) -> str | None:
    key = extras.get("idempotency_key", given)
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARACTERS or "\0" in key:
        raise InvalidRequest(
            f"idempotency_key must be a string of 1 to {MAX_KEY_CHARACTERS} characters.", param="idempotency_key"
        )
    return key


def max_cost(extras: JsonObject) -> NanoUsd | None:
    """What a job may cost at most, from `max_cost_usd`; None where it is not said. Raises InvalidRequest."""
    if "max_cost_usd" not in extras:
        return None
    try:
        amount = Decimal(str(extras["max_cost_usd"]))
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not 0 < amount <= MAX_COST_USD:
        raise InvalidRequest(
            f"max_cost_usd must be an amount above 0 and at most {MAX_COST_USD}.", param="max_cost_usd"
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
    given = extras["output_contract"]
    if isinstance(given, str):
        try:
            given = orjson.loads(given)
        except ValueError as error:
            raise InvalidRequest("output_contract is not JSON.", param="output_contract") from error
    if not isinstance(given, dict):
        raise InvalidRequest("output_contract must be an object.", param="output_contract")
    schema = given.get("schema", given)
    if not isinstance(schema, dict):
        raise InvalidRequest("output_contract.schema must be an object.", param="output_contract")
    return OutputContract(schema=schema, name=str(given.get("name", "answer")))


def _standard_contract(body: JsonObject) -> OutputContract | None:
    wanted = body.get("response_format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise InvalidRequest("response_format must be an object.", param="response_format")
    if wanted.get("type") == "json_object":
        return OutputContract(schema={"type": "object"}, strict=False)
    if wanted.get("type") != "json_schema":
        return None
    described = wanted.get("json_schema")
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        raise InvalidRequest(
            "response_format.json_schema.schema must be an object.", param="response_format.json_schema"
        )
    return OutputContract(
        schema=described["schema"],
        name=str(described.get("name", "answer")),
        strict=bool(described.get("strict", False)),
    )
