"""`/healthz` and `/readyz` for probes, which have no key; `/metrics` for scrapers; and the answer of `/`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import Json
from api.auth import Scraper
from api.errors import unready
from api.requests import OfServices

router = APIRouter(tags=["health"])

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/")
async def root() -> Json:
    """Say what this is and where its description stands."""
    return Json({"name": "penstock", "docs": "/docs", "openapi": "/openapi.json", "v1": "/v1"})


@router.get("/healthz")
async def healthz() -> Json:
    """Tell that the process lives; nothing else is asked."""
    return Json({"status": "ok"})


@router.get("/readyz")
async def readyz(services: OfServices) -> Response:
    """Tell whether work would be done now, and if not, why, in words without addresses."""
    checks = await services.watch.check()
    return unready(checks) if any(checks.values()) else Json({"status": "ready", "checks": dict(checks)})


@router.get("/metrics")
async def metrics(request: Request, scraper: Scraper, services: OfServices) -> Response:
    """Everything in Prometheus' text format; it names tenants and what they spend, so it takes a key."""
    _ = scraper
    state = request.app.state
    return Response(state.metrics.text() + await state.gauges.text(services.watch), media_type=PROMETHEUS_TEXT)
