"""Checks the patch of a replay request."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.contract import OutputContract
from schemas.errors import InvalidRequest
from schemas.ids import DEFAULT_TENANT
from schemas.job import NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.replay import Patch
from tasks.requests.chat import EXTRAS, Origin, Vocabulary, digest, max_cost, parse_chat_request
from tasks.requests.new_ids import new_job_id

SET_ELSEWHERE = {"model": "model", "messages": "message or body", "response_format": "contract"}
"""Fields that `parameters` must not hold, and the patch's fields that set them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Holds requested changes with checked types and unchecked values."""

    deadline_seconds: float
    body: JsonObject | None = None
    model: str | None = None
    lane: Lane | None = None
    parameters: JsonObject = field(default_factory=dict)
    contract: JsonObject | None = None
    message: str | JsonObject | None = None
    max_cost_usd: str | float | None = None


def patch_from(requested: Wanted, vocabulary: Vocabulary, now: datetime) -> Patch:
    """Check the request. Raises InvalidRequest and UnknownModel."""
    replaced = None if requested.body is None else _request(requested.body, vocabulary, now)
    if requested.model is not None:
        vocabulary.chain(requested.model)
    contract = None if requested.contract is None else _contract(requested.contract, vocabulary)
    body = dict(replaced.body) if replaced else None
    if body is not None and contract is not None:
        body.pop("response_format", None)
    return Patch(
        deadline_seconds=requested.deadline_seconds,
        body=body,
        model=requested.model,
        lane=requested.lane,
        parameters=_parameters(requested.parameters),
        contract=contract or (replaced.contract if replaced else None),
        message=_message(requested.message),
        max_cost_nano_usd=_max_cost(requested.max_cost_usd),
    )


def _request(body: JsonObject, vocabulary: Vocabulary, now: datetime) -> NewJob:
    """Raises the errors of a new job."""
    origin = Origin(tenant_id=DEFAULT_TENANT, job_id=new_job_id(), default_lane=Lane.NORMAL)
    return parse_chat_request(body, origin, vocabulary, now)


def _contract(contract: JsonObject, vocabulary: Vocabulary) -> OutputContract:
    schema: Any = contract.get("schema", contract)
    if not isinstance(schema, dict):
        raise InvalidRequest("contract.schema must be an object.", param="contract")
    if complaint := vocabulary.schema_complaint(schema):
        raise InvalidRequest(f"The JSON Schema of the contract is not usable: {complaint}", param="contract")
    return OutputContract(schema=schema, name=str(contract.get("name", "answer")))


def _parameters(parameters: JsonObject) -> JsonObject:
    for name in parameters:
        if name in SET_ELSEWHERE:
            raise InvalidRequest(f"parameters must not hold {name!r}; say {SET_ELSEWHERE[name]}.", param="parameters")
        if name in EXTRAS:
            raise InvalidRequest(f"parameters must not hold {name!r}, which is no provider's.", param="parameters")
    digest(parameters)
    return parameters


def _message(content: str | JsonObject | None) -> JsonObject | None:
    if content is None:
        return None
    message: JsonObject = {"role": "user", "content": content} if isinstance(content, str) else content
    if not isinstance(message.get("role"), str) or not message.get("content"):
        raise InvalidRequest("message must be a text, or an object with a role and a content.", param="message")
    digest(message)
    return message


def _max_cost(max_cost_usd: str | float | None) -> NanoUsd | None:
    return None if max_cost_usd is None else max_cost({"max_cost_usd": max_cost_usd})
