"""`/docs`: the routes as one page, without scripts or external resources.

FastAPI's own page loads a third party's script, which could read typed keys.
"""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from schemas.jsons import JsonObject

router = APIRouter(include_in_schema=False)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Allows inline style and nothing else."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
td { padding: .2rem 1rem .2rem 0; vertical-align: top } code { font-size: .95em }
"""


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Show every route with its description."""
    return HTMLResponse(page_of(request.app.openapi()), headers={"content-security-policy": POLICY})


def page_of(description: JsonObject) -> str:
    """Return the page for an OpenAPI document."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append(_row(method, path, operation))
    tables = "".join(f"<h2>{escape(tag)}</h2><table>{''.join(rows)}</table>" for tag, rows in by_tag.items())
    title = escape(description["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(description['info'].get('description', ''))}</p>"
        '<p>Bodies, parameters and answers are described in <a href="/openapi.json">/openapi.json</a>. '
        f"Keys are sent as <code>Authorization: Bearer …</code>.</p>{tables}</html>"
    )


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    description = escape(operation.get("description", operation.get("summary", "")))
    return f"<tr><td><code>{escape(method.upper())} {escape(path)}</code></td><td>{description}</td></tr>"
