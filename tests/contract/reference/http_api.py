"""The routes of the API, the fields that it adds to a request, and the headers that are its own."""

import ast
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

import api.auth
from api.app import ROUTERS, create_app
from api.auth import lane_scope
from api.native.operators import Scope
from config.catalogue import Catalogue
from config.settings import Settings
from schemas.lanes import Lane
from tasks.requests.chat import EXTRAS
from tests.contract.reference import source
from tests.contract.reference.json_schema import constraint_of, type_of
from tests.contract.reference.markdown import code, codes, heading, items, page, prose, table

BODY_SCHEMA = source.ROOT / "docs" / "contract" / "completions.body.schema.json"
HEADER = "x-penstock-"
KEYS: tuple[tuple[Any, str], ...] = (
    (api.auth.FOR_OPERATORS[0], "operator"),
    (get_args(api.auth.Scraper)[1], "scrape or operator"),
    (get_args(api.auth.AnyCaller)[1], "any"),
)
"""The dependencies by which routes ask for a key, the narrower ones first."""


def http_page() -> str:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    tags = list(dict.fromkeys(_tag(route) for route in routes))
    return page(
        "HTTP API",
        prose(
            "Bodies, parameters and answers stand in [openapi.json](../contract/openapi.json), which a running service "
            "shows at `/openapi.json`. A key is sent as `Authorization: Bearer KEY`. Errors are in "
            "[error-codes.md](error-codes.md)."
        ),
        *(block for tag in tags for block in _section(tag, [route for route in routes if _tag(route) == tag])),
        heading("Scopes of keys"),
        items(_scopes()),
        heading("Fields of ours in a request"),
        prose(
            "They stand in the body of a completion or in its `metadata`, and never reach a provider. Meanings are in "
            "[completions.body.schema.json](../contract/completions.body.schema.json)."
        ),
        table(("field", "type", "constraint"), _extras()),
        heading("Headers of ours"),
        table(("header", "direction", "named in"), _headers()),
    )


def openapi_text() -> str:
    """The OpenAPI description, as the file that is frozen."""
    return json.dumps(_app().openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _app() -> FastAPI:
    settings = Settings.model_validate({"redis_url": "redis://localhost", "database_url": "postgresql://localhost"})
    services: Any = SimpleNamespace(keys=None)  # the description needs no service
    return create_app(settings, Catalogue(), services)


def _tag(route: APIRoute) -> str:
    return str(next(iter(route.tags), "other"))


def _section(tag: str, routes: list[APIRoute]) -> tuple[str, str, str]:
    rows = [(_name(route), _key(route)) for route in routes]
    described = [(_name(route), route.description) for route in routes if route.description]
    return heading(tag.capitalize()), table(("route", "key"), rows), items(described)


def _name(route: APIRoute) -> str:
    return code(f"{'|'.join(sorted(route.methods))} {route.path}")


def _key(route: APIRoute) -> str:
    """The key that a route asks for, told from its dependencies."""
    calls = set(_dependencies(route.dependant))
    return next((name for asked, name in KEYS if asked.dependency in calls), "none")


def _dependencies(dependant: Dependant) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _dependencies(dependency)


def _scopes() -> Iterator[tuple[str, str]]:
    of_lanes = [lane_scope(lane) for lane in Lane]
    yield from ((code(scope), "") for scope in get_args(Scope) if scope not in of_lanes)
    yield codes(of_lanes), lane_scope.__doc__ or ""


def _extras() -> Iterator[tuple[str, ...]]:
    properties = json.loads(BODY_SCHEMA.read_text(encoding="utf-8"))["properties"]
    for name, part in properties.items():
        if name in EXTRAS:
            yield code(name), type_of(part), constraint_of(part)


def _headers() -> Iterator[tuple[str, str, str]]:
    """A header that is a key of a dictionary is set on an answer; one that stands alone is read from a request."""
    found = set[tuple[str, str, str]]()
    for module, tree in source.product_trees("api"):
        answered = {key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
        for node in ast.walk(tree):
            text = source.string_of(node) if isinstance(node, ast.Constant) else None
            if text and text.startswith(HEADER):
                found.add((code(text), "answer" if node in answered else "request", code(module)))
    yield from sorted(found)
