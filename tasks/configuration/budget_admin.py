"""Changes budgets and reports spend, for operators."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from schemas.errors import InvalidRequest
from schemas.ids import TenantId
from schemas.jsons import JsonObject
from schemas.money import usd_text
from storage.ledger.spend_reports import By, Spend, SpendReads
from tasks.configuration.effective import SettingRows, set_budget

KEYS: tuple[By, ...] = get_args(By)
LONGEST_REPORT_DAYS = 400
"""A year, and a month to compare it with."""


class BudgetAdmin:
    """Changes budgets and reports spend."""

    def __init__(self, rows: SettingRows, spend: SpendReads, *, now: Callable[[], datetime]) -> None:
        self._rows = rows
        self._spend = spend
        self._now = now

    async def set_budget(self, change: JsonObject) -> JsonObject:
        """Change a budget until the file changes it. Raises InvalidRequest."""
        row = await set_budget(self._rows, change)
        return {"id": row.name, "object": "budget", **row.value, "version": row.version, "source": row.source}

    async def report(
        self, by: Sequence[str], *, days: int, zone: str = "UTC", tenant_id: TenantId | None = None
    ) -> Sequence[JsonObject]:
        """Report what the last `days` cost and wasted. Raises InvalidRequest."""
        keys = tuple(key for key in KEYS if key in by)
        if not keys or len(keys) != len(by):
            raise InvalidRequest(f"by must name one or more of {', '.join(KEYS)}, each once.", param="by")
        if not 1 <= days <= LONGEST_REPORT_DAYS:
            raise InvalidRequest(f"days must be 1 to {LONGEST_REPORT_DAYS}.", param="days")
        until = self._now()
        groups = await self._spend.report(
            keys, since=until - timedelta(days=days), until=until, zone=_zone(zone), tenant_id=tenant_id
        )
        return [_row(group) for group in groups]


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):
        raise InvalidRequest(f"There is no timezone {name[:64]!r}.", param="timezone") from None


def _row(spend: Spend) -> JsonObject:
    return {
        **{str(key): value for key, value in spend.keys.items()},
        "entries": spend.entries,
        "spent_usd": usd_text(spend.spent_nano_usd),
        "wasted_usd": usd_text(spend.wasted_nano_usd),
    }
