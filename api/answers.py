"""How things are written as JSON answers: times, pages and objects. Decides nothing."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import orjson
from starlette.responses import Response

from schemas.errors import NotFound
from schemas.ids import ID
from schemas.jsons import JsonObject

Row = TypeVar("Row")


class Json(Response):
    """A JSON answer; orjson writes it, which also knows datetimes and string enums."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Bytes of the value."""
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)


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
