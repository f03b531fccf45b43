"""`/controls`: pause, resume, move and cancel jobs."""

from fastapi import APIRouter
from pydantic import Field

from api.answers import Json, listing
from api.auth import FOR_OPERATORS
from api.requests import JsonBody, OfServices, StrictBody, documented, parse
from schemas.control import Control, Kind, Subject
from schemas.jsons import JsonObject
from schemas.lanes import Lane

router = APIRouter(prefix="/controls", tags=["operators"], dependencies=FOR_OPERATORS)

MOST_CHARACTERS = 256
"""Longer than any id, tenant or model name."""


class Named(StrictBody):
    """The subject of a control."""

    kind: Kind = Field(strict=False)
    name: str = Field(min_length=1, max_length=MOST_CHARACTERS)

    @property
    def subject(self) -> Subject:
        """The same as a domain value."""
        return Subject(kind=self.kind, name=self.name)


class Move(Named):
    """A subject and its new lane."""

    lane: Lane = Field(strict=False)


@router.get("")
async def list_controls(services: OfServices) -> Json:
    """List pauses, and moves and cancellations in progress."""
    return listing([control_object(control) for control in await services.controls.all()])


@router.post("/pause", openapi_extra=documented(Named))
async def pause(body: JsonBody, services: OfServices) -> Json:
    """Pause a job, batch, tenant, model or lane; running calls continue. Safe to call twice."""
    begun = await services.controls.pause(parse(Named, body).subject)
    return Json(control_object(begun.control) | {"jobs": begun.jobs})


@router.post("/resume", openapi_extra=documented(Named))
async def resume(body: JsonBody, services: OfServices) -> Json:
    """Resume it."""
    resumed = await services.controls.resume(parse(Named, body).subject)
    return Json(control_object(resumed) | {"verb": "resume"})


@router.post("/move", openapi_extra=documented(Move))
async def move(body: JsonBody, services: OfServices) -> Json:
    """Move waiting jobs to another lane. `jobs` have moved already, the others follow."""
    request = parse(Move, body)
    begun = await services.controls.move(request.subject, request.lane)
    return Json(control_object(begun.control) | {"jobs": begun.jobs})


@router.post("/cancel", openapi_extra=documented(Named))
async def cancel(body: JsonBody, services: OfServices) -> Json:
    """Cancel waiting jobs. `jobs` are cancelled already, the others follow and none of them starts."""
    begun = await services.controls.cancel(parse(Named, body).subject)
    return Json(control_object(begun.control) | {"jobs": begun.jobs})


def control_object(control: Control) -> JsonObject:
    """Return a control for a listing."""
    return {
        "id": f"{control.verb}/{control.subject.kind}/{control.subject.name}",
        "object": "control",
        "verb": control.verb,
        "kind": control.subject.kind,
        "name": control.subject.name,
        "lane": control.lane,
        "under_way": control.sweeping,
        "created_at": control.created_at,
    }
