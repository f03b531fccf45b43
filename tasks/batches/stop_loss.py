"""Judges batches with stop-losses: hold after the canary, let go on, or stop.

Calls under way at a stop still cost money; only a budget of the scope `batch` is a hard limit. Every step may run
twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

import structlog

from schemas.ids import BatchId
from schemas.money import NanoUsd, usd_text
from schemas.stop_loss import Phase, StopLoss, Tally, Watched
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

LEAST_JUDGED = 20
"""Ended jobs needed to judge the error rate. An ended canary is judged at any size."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Change nothing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel the rest for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for approval after the canary, at this projected cost."""

    projected_nano_usd: NanoUsd


@dataclass(frozen=True, slots=True)
class Release:
    """Move the rest to its lane in rounds."""

    projected_nano_usd: NanoUsd | None = None


Verdict = GoOn | Stop | Hold | Release


class StopLossRows(Protocol):
    """Stores batches with stop-losses. Writes compare-and-set the phase."""

    async def watched(self) -> Sequence[Watched]:
        """List batches in progress with counts."""

    async def stop(self, batch_id: BatchId, reason: str) -> bool:
        """Cancel jobs that have not begun."""

    async def hold(self, batch_id: BatchId, projected: NanoUsd) -> bool:
        """Wait for approval."""

    async def release(self, batch_id: BatchId, projected: NanoUsd | None) -> int:
        """Move one round of the rest to its lane; returns how many, 0 when none is left."""


class StopLosses:
    """Applies stop-losses."""

    def __init__(self, rows: StopLossRows) -> None:
        self._rows = rows
        self._isolation = Isolation("watch_batches")

    async def look(self) -> int:
        """Judge every batch once; returns how many changed."""
        return await self._isolation.each(
            await self._rows.watched(), lambda batch: batch.batch_id, lambda batch: self._follow(batch, judge(batch))
        )

    async def _follow(self, batch: Watched, verdict: Verdict) -> int:
        match verdict:
            case GoOn():
                return 0
            case Stop(reason):
                stopped = await self._rows.stop(batch.batch_id, reason)
                log.warning("batch_stopped", batch_id=batch.batch_id, reason=reason)
                return int(stopped)
            case Hold(projected):
                log.info("batch_held", batch_id=batch.batch_id, projected_usd=usd_text(projected))
                return int(await self._rows.hold(batch.batch_id, projected))
            case Release(projected):
                return int(await self._rows.release(batch.batch_id, projected) > 0)
            case _:
                assert_never(verdict)


def judge(batch: Watched) -> Verdict:
    """Judge a batch. Pure."""
    reason = _too_dear(batch.terms, batch.tally) or _too_wrong(batch)
    if reason is not None:
        return Stop(reason)
    match batch.phase:
        case Phase.CANARY:
            return GoOn() if batch.tally.alive else _after_canary(batch.terms, batch.tally)
        case Phase.RELEASING:
            return Release()
        case Phase.HELD | Phase.WATCHED | Phase.STOPPED:
            return GoOn()
        case _:
            assert_never(batch.phase)


def _after_canary(terms: StopLoss, tally: Tally) -> Verdict:
    projected = tally.projected_nano_usd
    cap = terms.max_cost_nano_usd
    if not tally.held or (cap is not None and projected <= cap):
        return Release(projected)
    return Hold(projected)


def _too_dear(terms: StopLoss, tally: Tally) -> str | None:
    cap = terms.max_cost_nano_usd
    if cap is None or tally.spent_nano_usd < cap:
        return None
    return f"The batch has cost {usd_text(tally.spent_nano_usd)} USD of max_cost_usd {usd_text(cap)}."


def _too_wrong(batch: Watched) -> str | None:
    rate, tally = batch.terms.max_error_rate, batch.tally
    canary_is_through = batch.phase is Phase.CANARY and not tally.alive and tally.rested > 0
    if rate is None or not (canary_is_through or tally.rested >= LEAST_JUDGED):
        return None
    if tally.failed <= rate * tally.rested:
        return None
    return f"{tally.failed} of {tally.rested} requests failed, more than max_error_rate {rate:g} allows."
