"""Checks the patch of a replay request."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.contract import OutputContract
from schemas.errors import InvalidRequest
from schemas.ids import DEFAULT_TENANT
from schemas.job import NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.replay import Patch
from tasks.requests.chat import (
    DEFAULT_DEADLINE_SECONDS,
    EXTRAS,
    MAX_DEADLINE_SECONDS,
    Origin,
    Vocabulary,
    digest,
    max_cost,
    parse_chat_request,
)
from tasks.requests.new_ids import new_job_id

SAID_OTHERWISE = {"model": "model", "messages": "message or body", "response_format": "contract"}
"""Fields that `parameters` must not hold, and the patch's fields that set them."""


class Changes(BaseModel):
    """What is changed about each. `body` replaces its request first; `parameters` are merged into it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    body: JsonObject | None = None
    model: str | None = None
    lane: Lane | None = Field(default=None, strict=False)
    parameters: JsonObject = Field(default_factory=dict)
    contract: JsonObject | None = None
    message: Annotated[str, Field(min_length=1)] | JsonObject | None = None
    deadline_seconds: float = Field(default=DEFAULT_DEADLINE_SECONDS, gt=0, le=MAX_DEADLINE_SECONDS)
    max_cost_usd: str | int | float | None = None


def patch_from(changes: Changes, vocabulary: Vocabulary, now: datetime) -> Patch:
    """Check the request and return its patch. Raises InvalidRequest and UnknownModel."""
    replaced = None if changes.body is None else _request(changes.body, vocabulary, now)
    if changes.model is not None:
        vocabulary.chain(changes.model)
    contract = None if changes.contract is None else _contract(changes.contract, vocabulary)
    body = dict(replaced.body) if replaced else None
    if body is not None and contract is not None:
        body.pop("response_format", None)
    return Patch(
        deadline_seconds=changes.deadline_seconds,
        body=body,
        model=changes.model,
        lane=changes.lane,
        parameters=_parameters(changes.parameters),
        contract=contract or (replaced.contract if replaced else None),
        message=_message(changes.message),
        max_cost_nano_usd=None if changes.max_cost_usd is None else max_cost({"max_cost_usd": changes.max_cost_usd}),
    )


def _request(body: JsonObject, vocabulary: Vocabulary, now: datetime) -> NewJob:
    """Raises the errors of a new job."""
    origin = Origin(tenant_id=DEFAULT_TENANT, job_id=new_job_id(), default_lane=Lane.NORMAL)
    return parse_chat_request(body, origin, vocabulary, now)


def _contract(given: JsonObject, vocabulary: Vocabulary) -> OutputContract:
    schema: Any = given.get("schema", given)
    if not isinstance(schema, dict):
        raise InvalidRequest("contract.schema must be an object.", param="contract")
    if complaint := vocabulary.schema_complaint(schema):
        raise InvalidRequest(f"The JSON Schema of the contract is not usable: {complaint}", param="contract")
    return OutputContract(schema=schema, name=str(given.get("name", "answer")))


def _parameters(given: JsonObject) -> JsonObject:
    for name in given:
        if name in SAID_OTHERWISE:
            raise InvalidRequest(f"parameters must not hold {name!r}; say {SAID_OTHERWISE[name]}.", param="parameters")
        if name in EXTRAS:
            raise InvalidRequest(f"parameters must not hold {name!r}, which is no provider's.", param="parameters")
    digest(given)
    return given


def _message(given: str | JsonObject | None) -> JsonObject | None:
    if given is None:
        return None
    message: JsonObject = {"role": "user", "content": given} if isinstance(given, str) else given
    if not isinstance(message.get("role"), str) or not message.get("content"):
        raise InvalidRequest("message must be a text, or an object with a role and a content.", param="message")
    digest(message)
    return message
