"""Builds the ASGI application from routes, middleware and services."""

import time

from fastapi import FastAPI
from pydantic import SecretStr

from api.auth import Authenticator
from api.errors import install
from api.gauges import ServiceGauges
from api.memory import MemoryBudget
from api.metrics import Metrics
from api.middleware import Frame, body_caps
from api.native import controls, dead_letters, docs, health, jobs, operators, quote, replays, suspense, tenants
from api.open_requests import OpenRequests
from api.openai import batches, chat, files, models
from api.refused import RefusedRequests
from api.server.limits import possible_connections
from config.catalogue import Catalogue
from config.settings import Settings
from schemas.jsons import JsonObject
from tasks.wiring.web import WebServices

ROUTERS = (
    files.router,
    batches.router,
    chat.router,
    models.router,
    jobs.router,
    dead_letters.router,
    replays.router,
    operators.router,
    suspense.router,
    quote.router,
    controls.router,
    tenants.router,
    health.router,
    docs.router,
)


ERROR: JsonObject = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    },
}
ERROR_ANSWER: JsonObject = {"type": "object", "required": ["error"], "properties": {"error": ERROR}}
ERROR_RESPONSE: JsonObject = {
    "description": "An error in OpenAI's shape",
    "content": {"application/json": {"schema": ERROR_ANSWER}},
}


def create_app(settings: Settings, catalogue: Catalogue, services: WebServices) -> FastAPI:
    """Build the ASGI application over open services."""
    metrics = Metrics()
    app = FastAPI(
        title="Penstock",
        description="LLM completion jobs at the full speed of a provider quota and never past a budget.",
        responses={"default": ERROR_RESPONSE},
        docs_url=None,  # our own page loads nothing from third parties
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.catalogue = catalogue
    app.state.services = services
    app.state.authenticator = Authenticator(
        services.keys, _secret(settings.admin_key), scrape_secret=_secret(settings.metrics_key)
    )
    app.state.metrics = metrics
    app.state.gauges = ServiceGauges()
    app.state.refused_requests = RefusedRequests()
    app.state.started_at = int(time.time())
    caps = body_caps(max_body_bytes=settings.max_body_bytes, max_file_bytes=settings.max_file_bytes)
    app.state.open_requests = OpenRequests(possible_connections(settings))
    app.add_middleware(
        Frame,
        metrics=metrics,
        cap_bytes=caps,
        memory=MemoryBudget(settings.max_bytes_in_flight),
        closed=app.state.open_requests.close,
    )
    install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _secret(setting: SecretStr | None) -> str | None:
    return setting.get_secret_value() if setting else None
