"""`/v1/models`: configured models and aliases."""

from collections.abc import Mapping

from fastapi import APIRouter, Request

from api.answers import Json, listing, require
from api.auth import AnyCaller
from config.catalogue import Catalogue
from schemas.jsons import JsonObject

router = APIRouter(prefix="/v1/models", tags=["models"])

ALIAS_OWNER = "penstock"

ANNOUNCED_SHUTDOWNS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "gpt-4",
            "gpt-4-0613",
            "gpt-4-turbo",
            "gpt-3.5-turbo",
            "gpt-3.5-turbo-0125",
            "o1",
            "o3-mini",
            "o4-mini",
            "gpt-4.1-nano",
        ),
        "2026-10-23",
    ),
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"), "2026-12-11"),
    **dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"), "2027-01-14"),
    **dict.fromkeys(("gpt-5.1", "gpt-5.4-nano"), "2027-04-01"),
}
"""Copied from the docstring of `openai.types.shared.chat_model` (3.54.0), for information only."""


@router.get("")
async def list_models(request: Request, _: AnyCaller) -> Json:
    """List models and aliases."""
    return listing(model_objects(request.app.state.catalogue, request.app.state.started_at))


@router.get("/{model:path}")
async def retrieve_model(model: str, request: Request, _: AnyCaller) -> Json:
    """Show a model or an alias."""
    models = model_objects(request.app.state.catalogue, request.app.state.started_at)
    return Json(require(next((candidate for candidate in models if candidate["id"] == model), None), "model", model))


def model_objects(catalogue: Catalogue, created: int) -> list[JsonObject]:
    """Return all models and aliases. An alias ends with the last model of its chain, once all of them have an end."""
    models = [
        _object(name, table.provider, ANNOUNCED_SHUTDOWNS.get(name), created)
        for name, table in catalogue.models.items()
    ]
    aliases = [
        _object(alias, ALIAS_OWNER, _end_of_chain(chain), created) | {"penstock_chain": list(chain)}
        for alias, chain in catalogue.aliases.items()
        if alias not in catalogue.models
    ]
    return models + aliases


def _end_of_chain(chain: tuple[str, ...]) -> str | None:
    ends = [ANNOUNCED_SHUTDOWNS.get(name) for name in chain]
    announced = [end for end in ends if end is not None]
    return max(announced) if announced and len(announced) == len(ends) else None


def _object(name: str, owner: str, shutdown_date: str | None, created: int) -> JsonObject:
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": shutdown_date}
