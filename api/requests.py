"""Reads request bodies and the application's objects.

No body is read before its caller is known. JSON values are counted before parsing: 4 MB within the bounds parse in at
most 35 ms.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from api.auth import AnyCaller, Authenticator, Caller
from api.memory import VALUE_BYTES, MemoryShare
from config.catalogue import PrivacyTable
from config.settings import Settings
from schemas.bounds import check_nodes, node_bound
from schemas.errors import InvalidRequest
from schemas.job import NewJob
from schemas.jsons import JsonObject, MalformedJson
from schemas.jsons import parse as parse_json
from schemas.lanes import Lane
from schemas.storable import refuse_unstorable
from tasks.requests.chat import (
    DEFAULT_DEADLINE_SECONDS,
    MAX_DEADLINE_SECONDS,
    MAX_KEY_CHARACTERS,
    Origin,
    parse_chat_request,
)
from tasks.requests.new_ids import new_job_id
from tasks.wiring.web import WebServices


class Body(BaseModel):
    """A body that ignores unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True)


class StrictBody(Body):
    """A body that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


Parsed = TypeVar("Parsed", bound=Body)


async def _json_object(request: Request, _: AnyCaller) -> JsonObject:
    raw = await _read_body(request)
    request.state.body_read_at = time.perf_counter()
    return _object_of(raw, request.state.memory)


async def _read_body(request: Request) -> bytes:
    """Return the body without keeping a reference to it."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
    return bytes(raw)


def _object_of(raw: bytes, share: MemoryShare) -> JsonObject:
    check_nodes(raw)
    share.take(node_bound(raw) * VALUE_BYTES)
    try:
        value = parse_json(raw)
    except MalformedJson as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    refuse_unstorable(value, raw)
    return value


def parse(kind: type[Parsed], body: Any) -> Parsed:  # noqa: ANN401 - unparsed
    """Validate the body. Raises InvalidRequest with the first wrong field."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or None
        raise InvalidRequest(f"{where}: {first['msg']}" if where else first["msg"], param=where) from None


def body_of(schema: JsonObject, media_type: str = "application/json") -> JsonObject:
    """Return the OpenAPI description of a body with this schema."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def documented(kind: type[Body]) -> JsonObject:
    """Return the OpenAPI description of a body."""
    return body_of(kind.model_json_schema(ref_template="#/components/schemas/{model}"))


CHAT_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"}}},
        },
        "lane": {"type": "string", "enum": [lane.value for lane in Lane]},
        "deadline_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_SECONDS},
        "idempotency_key": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
        "output_contract": {"type": "object"},
        "max_cost_usd": {"type": ["string", "number"]},
    },
}
"""Fields that we read; all others go to the provider unchanged."""

CHAT_BODY = body_of(CHAT_SCHEMA)


def _attribute(path: str) -> Callable[[Request], Awaitable[Any]]:
    """Return the dependency that hands a route this attribute of its request."""

    async def attribute(request: Request) -> Any:  # noqa: ANN401 - the alias below names its type
        return attrgetter(path)(request)

    return attribute


JsonBody = Annotated[JsonObject, Depends(_json_object)]
OfServices = Annotated[WebServices, Depends(_attribute("app.state.services"))]
OfSettings = Annotated[Settings, Depends(_attribute("app.state.settings"))]
OfPrivacy = Annotated[PrivacyTable, Depends(_attribute("app.state.catalogue.privacy"))]
OfMemory = Annotated[MemoryShare, Depends(_attribute("state.memory"))]
OfAuthenticator = Annotated[Authenticator, Depends(_attribute("app.state.authenticator"))]
IdempotencyKey = Annotated[str | None, Header()]


def checked_key(key: str | None) -> str | None:
    """Return the key. Raises InvalidRequest for a wrong length."""
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidRequest(
            f"idempotency_key must be a string of 1 to {MAX_KEY_CHARACTERS} characters.", param="idempotency_key"
        )
    return key


def new_job(
    body: JsonObject,
    caller: Caller,
    services: WebServices,
    *,
    lane: Lane,
    idempotency_key: str | None,
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
) -> NewJob:
    """Build the job of a body. Raises InvalidRequest, UnknownModel and LaneForbidden."""
    origin = Origin(
        tenant_id=caller.tenant_id,
        job_id=new_job_id(),
        default_lane=lane,
        idempotency_key=idempotency_key,
        default_deadline_seconds=deadline_seconds,
        lanes=caller.lanes_of(services.share(caller.tenant_id)),
    )
    return parse_chat_request(body, origin, services.vocabulary, datetime.now(UTC))


def unchecked_parts(job: NewJob, services: WebServices) -> list[str]:
    """Return the parts of the contract that only the provider checks."""
    return [] if job.contract is None else list(services.vocabulary.unchecked(job.contract.schema))
