"""Writes JSON responses."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from starlette.responses import Response

from schemas.errors import NotFound
from schemas.ids import ID
from schemas.jsons import JsonObject, dumps

Row = TypeVar("Row")

PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class Json(Response):
    """A JSON response that keeps stored digits as they are."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Encode the value."""
        return dumps(content, orjson.OPT_UTC_Z)


def header_value(text: str) -> str:
    """Percent-encode all but printable ASCII, for a header value."""
    return quote(text, safe=PRINTABLE)


def page(rows: Sequence[Row], limit: int, show: Callable[[Row], JsonObject]) -> Json:
    """Return a page of up to `limit` rows; one more row means a next page."""
    shown = [show(row) for row in rows[:limit]]
    return Json(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(rows) > limit,
        }
    )


def listing(rows: Sequence[JsonObject]) -> Json:
    """Return a list without pagination."""
    return Json({"object": "list", "data": list(rows), "has_more": False})


def unix(moment: datetime | None) -> int | None:
    """Convert to whole Unix seconds."""
    return None if moment is None else int(moment.timestamp())


def require(row: Row | None, what: str, name: str) -> Row:
    """Return the row. Raises NotFound where there is none."""
    if row is None:
        raise NotFound(f"There is no {what} with the id '{name}'.", param="id")
    return row


def checked_id(name: str, what: str) -> str:
    """Return an id of valid form. Raises NotFound for other text."""
    return require(name if ID.fullmatch(name) else None, what, name.encode("ascii", "replace").decode()[:128])
