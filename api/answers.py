"""How things are written as JSON answers: times, pages and objects. Decides nothing."""

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
    """A JSON answer, digit for digit as it is stored; datetimes and string enums are written too."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Bytes of the value."""
        return dumps(content, orjson.OPT_UTC_Z)


def header_value(text: str) -> str:
    """Text of anybody's as the value of a header: what is not printable ASCII is percent-encoded."""
    return quote(text, safe=PRINTABLE)


def page(rows: Sequence[Row], limit: int, show: Callable[[Row], JsonObject]) -> Json:
    """A cursor page of up to `limit`; the caller asked the store for one row more to learn whether there are."""
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


def whole(rows: Sequence[JsonObject]) -> Json:
    """A list that has no pages."""
    return Json({"object": "list", "data": list(rows), "has_more": False})


def unix(moment: datetime | None) -> int | None:
    """Whole seconds, as OpenAI writes times."""
    return None if moment is None else int(moment.timestamp())


def known(found: Row | None, what: str, name: str) -> Row:
    """The thing itself. Raises NotFound, also for what belongs to somebody else."""
    if found is None:
        raise NotFound(f"There is no {what} with the id '{name}'.", param="id")
    return found


def checked_id(name: str, what: str) -> str:
    """An id that could be one. Raises NotFound for text that no store should be asked about."""
    return known(name if ID.fullmatch(name) else None, what, name.encode("ascii", "replace").decode()[:128])
