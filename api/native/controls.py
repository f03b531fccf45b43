"""`/controls`: pause, resume, move and cancel a job, batch, tenant, model or lane. Needs the operator scope."""

from fastapi import APIRouter
from pydantic import Field

from api.answers import Json, whole
from api.auth import FOR_OPERATORS
from api.requests import JsonBody, OfServices, StrictBody, documented, parse
from schemas.control import Control, Kind, Subject
from schemas.jsons import JsonObject
from schemas.lanes import Lane

router = APIRouter(prefix="/controls", tags=["operators"], dependencies=FOR_OPERATORS)

MOST_CHARACTERS = 256
"""Longer than any id, tenant name or model name of a job."""


class Named(StrictBody):
    """What is meant."""

    kind: Kind = Field(strict=False)
    name: str = Field(min_length=1, max_length=MOST_CHARACTERS)

    @property
    def subject(self) -> Subject:
        """Return the subject of the control."""
        return Subject(kind=self.kind, name=self.name)


class Move(Named):
    """What is meant, and where it goes."""

    lane: Lane = Field(strict=False)


@router.get("")
async def list_controls(services: OfServices) -> Json:
    """List what is paused, and what is being moved or cancelled."""
    return whole([control_object(control) for control in await services.controls.all()])


@router.post("/pause", openapi_extra=documented(Named))
async def pause(body: JsonBody, services: OfServices) -> Json:
    """Let nothing more of it start; calls under way go on. Safe to call twice."""
    begun = await services.controls.pause(parse(Named, body).subject)
    return Json(control_object(begun.control) | {"jobs": begun.jobs})


@router.post("/resume", openapi_extra=documented(Named))
async def resume(body: JsonBody, services: OfServices) -> Json:
    """Let it start again."""
    resumed = await services.controls.resume(parse(Named, body).subject)
    return Json(control_object(resumed) | {"verb": "resume"})


@router.post("/move", openapi_extra=documented(Move))
async def move(body: JsonBody, services: OfServices) -> Json:
    """Put what waits of it into another lane; `jobs` of them are there already, the others follow."""
    wanted = parse(Move, body)
    begun = await services.controls.move(wanted.subject, wanted.lane)
    return Json(control_object(begun.control) | {"jobs": begun.jobs})


@router.post("/cancel", openapi_extra=documented(Named))
async def cancel(body: JsonBody, services: OfServices) -> Json:
    """Rest what waits of it as cancelled; `jobs` of them are already, the others follow and none of them starts."""
    begun = await services.controls.cancel(parse(Named, body).subject)
    return Json(control_object(begun.control) | {"jobs": begun.jobs})


def control_object(control: Control) -> JsonObject:
    """Return a control as a listing shows it."""
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
