"""Serves the routes beside the calls: models on offer, the meter, bills, shares of faults.

GET /v1/models, /v1/models/{id}    GET /meter, /meter/bills?client_request_id=, /meter/hits, /meter/scripts
POST /meter/reset    GET /scenarios    PUT /scenarios {name: share, ...} replaces all shares    GET /healthz
"""

from collections.abc import Mapping

import orjson
from aiohttp import web

from simulator import faults
from simulator.faults import ErrorShape
from simulator.meter import Meter
from simulator.provider import Provider, Turned
from simulator.settings import BadSetting

_CREATED_AT = 1_760_000_000


def answer(
    provider: Provider, method: str, path: str, query: Mapping[str, str], *, raw: bytes, unix_now: float
) -> web.Response:
    """Answer one of these routes. Raises Turned for an unknown path, model or scenario."""
    match method, path:
        case "GET", _:
            found: object = _read(provider, path, query)
        case "POST", "/meter/reset":
            provider.meter = Meter(started_at=unix_now)
            found = {"reset": True}
        case "PUT", "/scenarios":
            provider.shares = _shares(raw)
            found = {"shares": provider.shares}
        case _:
            raise _turned(_invalid(f"Invalid URL ({method} {path})", status=404))
    return web.Response(body=orjson.dumps(found), headers={"content-type": "application/json"})


def _read(provider: Provider, path: str, query: Mapping[str, str]) -> object:
    match path:
        case "/v1/models":
            return {"object": "list", "data": [_model(name) for name in provider.settings.models]}
        case "/meter":
            return provider.meter.report()
        case "/meter/bills":
            return provider.meter.bill_list(query.get("client_request_id"))
        case "/meter/hits":
            return dict(provider.meter.hits)
        case "/meter/scripts":
            return dict(provider.meter.scripts)
        case "/scenarios":
            return {"shares": provider.shares, "known": dict(faults.SCENARIOS)}
        case "/healthz":
            return {"status": "ok"}
        case "/v1/chat/completions":
            return provider.shelf.page(query)
    return _one(provider, path)


def _one(provider: Provider, path: str) -> object:
    folder, _, name = path.rpartition("/")
    match folder:
        case "/v1/models" if name in provider.settings.models:
            return _model(name)
        case "/v1/models":
            raise _turned(faults.model_not_found(name))
        case "/v1/chat/completions":
            found = provider.shelf.find(name)
            if found is None:
                raise _turned(_invalid(f"No completion is stored as '{name}'.", status=404))
            return found
    raise _turned(_invalid(f"Invalid URL (GET {path})", status=404))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED_AT, "owned_by": "simulator", "shutdown_date": None}


def _shares(raw: bytes) -> dict[str, float]:
    try:
        return faults.checked_shares({str(name): float(share) for name, share in orjson.loads(raw).items()})
    except BadSetting as error:
        raise _turned(_invalid(str(error))) from None
    except (AttributeError, TypeError, ValueError):
        raise _turned(_invalid("The body must be an object of shares by name.")) from None


def _invalid(message: str, *, status: int = 400) -> ErrorShape:
    return ErrorShape(status=status, type="invalid_request_error", code=None, message=message)


def _turned(shape: ErrorShape) -> Turned:
    return Turned(shape, reason="desk")  # not a call, so the meter does not count it
