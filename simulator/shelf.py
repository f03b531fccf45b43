"""Stores completions sent with `store: true`, so that clients can find a lost answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

_MOST_KEPT = 10_000
_PAGE, _LARGEST_PAGE = 20, 100


@dataclass(frozen=True, kw_only=True)
class _Kept:
    model: str
    metadata: Mapping[str, object]
    body: bytes


class Shelf:
    """The newest stored completions, oldest first."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def keep(self, completion_id: str, *, model: str, metadata: object, body: bytes) -> None:
        """Store one; drop the oldest when there are too many."""
        found = metadata if isinstance(metadata, dict) else {}
        self._kept[completion_id] = _Kept(model=model, metadata=found, body=body)
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def find(self, completion_id: str) -> object | None:
        """Return one completion, or None."""
        kept = self._kept.get(completion_id)
        return None if kept is None else orjson.loads(kept.body)

    def page(self, query: Mapping[str, str]) -> dict[str, object]:
        """Return a page of the list, filtered by `model`, `metadata[NAME]`, `after` and `limit`."""
        wanted = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[")}
        asked = query.get("limit", "")
        size = max(1, min(int(asked), _LARGEST_PAGE)) if asked.isdigit() else _PAGE
        ids = [
            completion_id
            for completion_id, kept in self._kept.items()
            if query.get("model", kept.model) == kept.model
            and all(str(kept.metadata.get(name)) == value for name, value in wanted.items())
        ]
        after = query.get("after")
        rest = ids[ids.index(after) + 1 :] if after in ids else ids
        chosen = rest[:size]
        return {
            "object": "list",
            "data": [orjson.loads(self._kept[completion_id].body) for completion_id in chosen],
            "first_id": chosen[0] if chosen else None,
            "last_id": chosen[-1] if chosen else None,
            "has_more": len(rest) > size,
        }
