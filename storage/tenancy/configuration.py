"""Stores effective limits, budgets and lanes: named JSON values with version and source.

An operator's change holds until the file's value changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.database.engine import dumps
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable, fetch

FROM_FILE, FROM_OPERATOR = "file", "operator"

APPLY_FILE = """
INSERT INTO effective_config AS c (name, version, value, source, file_value)
VALUES (:name, 1, CAST(:value AS json), 'file', CAST(:value AS json))
ON CONFLICT (name) DO UPDATE
SET version = c.version + 1, value = EXCLUDED.value, source = 'file', file_value = EXCLUDED.file_value,
    changed_at = clock_timestamp()
WHERE c.file_value::jsonb IS DISTINCT FROM EXCLUDED.file_value::jsonb
RETURNING c.name
"""

LEFT_OUT = """
SELECT name FROM effective_config
WHERE EXISTS (SELECT 1 FROM unnest(CAST(:owned AS text[])) AS o (beginning) WHERE starts_with(name, o.beginning))
  AND file_value IS NOT NULL AND file_value::text <> 'null'
  AND NOT name = ANY(CAST(:named AS text[]))
"""

SET = """
INSERT INTO effective_config AS c (name, version, value, source)
VALUES (:name, 1, CAST(:value AS json), 'operator')
ON CONFLICT (name) DO UPDATE
SET version = c.version + 1, value = EXCLUDED.value, source = 'operator', changed_at = clock_timestamp()
RETURNING *
"""

ALL = "SELECT * FROM effective_config ORDER BY name"
BY_NAME = "SELECT * FROM effective_config WHERE name = :name"
FORGET = "DELETE FROM effective_config WHERE name = :name RETURNING name"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigRow:
    """Holds one effective value."""

    name: str
    version: int
    value: Any
    source: str
    changed_at: datetime


class ConfigTable(PostgresTable):
    """Stores the effective configuration; readers compare versions."""

    async def apply_file(self, values: Mapping[str, Any], *, owned: Sequence[str] = ()) -> list[str]:
        """Apply values that changed in the file; returns their names. Safe to call twice.

        A missing name with a prefix of `owned` becomes null.
        """
        changed: list[str] = []
        async with self._transaction() as connection:
            left_out = {"owned": list(owned), "named": list(values)}
            removed = [] if not owned else await fetch(connection, LEFT_OUT, left_out)
            updates = {**values, **{row["name"]: None for row in removed}}
            for name in sorted(updates):  # one order, so that two releases at once cannot deadlock
                rows = await fetch(connection, APPLY_FILE, {"name": name, "value": _text(updates[name])})
                changed += [row["name"] for row in rows]
        return changed

    async def set(self, name: str, value: Any) -> ConfigRow:  # noqa: ANN401 - any JSON value
        """Apply an operator's change."""
        [row] = await self._fetch_once(SET, name=name, value=_text(value))
        return read_as(ConfigRow, row)

    async def all(self) -> Sequence[ConfigRow]:
        """Read every effective value, by name."""
        return [read_as(ConfigRow, row) for row in await self._fetch_once(ALL)]

    async def get(self, name: str) -> ConfigRow | None:
        """Read one effective value."""
        rows = await self._fetch_once(BY_NAME, name=name)
        return read_as(ConfigRow, rows[0]) if rows else None

    async def forget(self, name: str) -> bool:
        """Remove a value; the file's comes back with the next release."""
        return bool(await self._fetch_once(FORGET, name=name))


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return dumps(value) or "null"
