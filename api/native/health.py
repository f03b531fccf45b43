"""Serves probes, metrics and `/`."""

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
    """Link to the descriptions of this API."""
    return Json({"name": "penstock", "docs": "/docs", "openapi": "/openapi.json", "v1": "/v1"})


@router.get("/healthz")
async def healthz() -> Json:
    """Report that the process is alive, without checking anything else."""
    return Json({"status": "ok"})


@router.get("/readyz")
async def readyz(services: OfServices) -> Response:
    """Report whether jobs can run now, and if not, why."""
    checks = await services.watch.check()
    return unready(checks) if any(checks.values()) else Json({"status": "ready", "checks": dict(checks)})


@router.get("/metrics")
async def metrics(request: Request, _: Scraper, services: OfServices) -> Response:
    """Return all metrics. A key is needed, because they name tenants and their spending."""
    state = request.app.state
    return Response(state.metrics.text() + await state.gauges.text(services.watch), media_type=PROMETHEUS_TEXT)
