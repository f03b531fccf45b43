"""Dead letters back to work: in rounds, each one transaction, so that a command that is killed has moved whole rounds.

A job leaves `dead` once, whoever asks how often. Dispatch publishes what was replayed.
"""

from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.money import NanoUsd
from storage.replay import MOST_PER_ROUND, DeadLetters, ReplayTable


class Replay:
    """Moves every dead letter that is meant."""

    def __init__(self, table: ReplayTable) -> None:
        self._table = table

    async def replay(
        self,
        which: DeadLetters,
        *,
        deadline_seconds: float,
        body: JsonObject | None = None,
        max_cost_nano_usd: NanoUsd | None = None,
    ) -> list[JobId]:
        """Queue them with a new deadline; returns their ids. `body` replaces the request of each."""
        moved: list[JobId] = []
        while True:
            part = await self._table.replay(
                which, deadline_seconds=deadline_seconds, body=body, max_cost_nano_usd=max_cost_nano_usd
            )
            moved += part
            if len(part) < MOST_PER_ROUND:
                return moved

    async def discard(self, which: DeadLetters) -> list[JobId]:
        """Put them aside; returns their ids."""
        moved: list[JobId] = []
        while True:
            part = await self._table.discard(which)
            moved += part
            if len(part) < MOST_PER_ROUND:
                return moved
