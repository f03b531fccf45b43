"""Selects dead letters within the caller's tenants."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import AwareDatetime, ConfigDict, Field

from api.answers import checked_id
from api.auth import AnyCaller, Caller
from api.requests import StrictBody
from schemas.decision import DeadReason
from schemas.errors import Forbidden, InvalidRequest
from schemas.ids import ID, BatchId, JobId, TenantId
from schemas.replay import DeadLetters

MOST_IDS = 1_000


class Filter(StrictBody):
    """Fields that restrict dead letters.

    `group` is the id of a group of `/dead-letters/groups`; `since` and `until` are about the moment of death.
    """

    reason: DeadReason | None = Field(default=None, strict=False)
    group: str | None = None
    batch_id: str | None = None
    model: str | None = None
    prompt: str | None = None
    tenant_id: str | None = None
    since: AwareDatetime | None = Field(default=None, strict=False)
    until: AwareDatetime | None = Field(default=None, strict=False)


class QueryFilter(Filter):
    """The filter in a query, beside other parameters."""

    model_config = ConfigDict(extra="ignore")


class Chosen(StrictBody):
    """Either ids or a filter; an empty filter means all."""

    ids: Annotated[list[str], Field(min_length=1, max_length=MOST_IDS)] | None = None
    filter: Filter | None = None


def selected(caller: Caller, selection: Chosen) -> DeadLetters:
    """Return the selection of a body. Raises InvalidRequest, NotFound for malformed ids, and Forbidden."""
    if (selection.ids is None) == (selection.filter is None):
        raise InvalidRequest("Say either ids or filter; an empty filter means all dead letters.", param="ids")
    if selection.filter is not None:
        return filtered(caller, selection.filter)
    ids = dict.fromkeys(JobId(checked_id(job_id, "dead letter")) for job_id in selection.ids or [])
    return DeadLetters(tenant_id=caller.tenant_scope, ids=tuple(ids))


def filtered(caller: Caller, chosen: Filter) -> DeadLetters:
    """Return the selection of a filter. Raises InvalidRequest and Forbidden."""
    for name, value in (("model", chosen.model), ("prompt", chosen.prompt)):
        if "\0" in (value or ""):
            raise InvalidRequest(f"{name} must not hold NUL characters.", param=name)
    return DeadLetters(
        tenant_id=_tenant(caller, chosen.tenant_id),
        reason=chosen.reason,
        fingerprint=None if chosen.group is None else checked_id(chosen.group, "group"),
        batch_id=None if chosen.batch_id is None else BatchId(checked_id(chosen.batch_id, "batch")),
        model=chosen.model,
        prompt=chosen.prompt,
        since_at=chosen.since,
        until_at=chosen.until,
    )


async def _of_query(caller: AnyCaller, chosen: Annotated[QueryFilter, Query()]) -> DeadLetters:
    return filtered(caller, chosen)


SelectedByQuery = Annotated[DeadLetters, Depends(_of_query)]


def _tenant(caller: Caller, named: str | None) -> TenantId | None:
    if named is None or named == caller.tenant_scope:
        return caller.tenant_scope
    if caller.tenant_scope is not None or not ID.fullmatch(named):
        raise Forbidden("Only an operator may name another tenant.", param="tenant_id")
    return TenantId(named)
