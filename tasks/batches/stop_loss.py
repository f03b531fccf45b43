"""Judges batches with stop-losses: hold after the canary, let go on, or stop.

Runs in upkeep once a second. Calls under way when a batch stops may finish and are paid for; only a budget of the scope
`batch` is a hard limit. Every step is a compare-and-set on the phase, so it may run twice.
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
"""Ended jobs needed before the error rate is judged. A canary is judged once it has ended, whatever its size."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Change nothing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel the rest for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for approval to go on, at this projected cost: the canary has ended."""

    projected_nano_usd: NanoUsd


@dataclass(frozen=True, slots=True)
class Release:
    """Move the rest to its lane, one round at a time."""

    projected_nano_usd: NanoUsd | None = None


Verdict = GoOn | Stop | Hold | Release


class StopLossRows(Protocol):
    """Stores batches with stop-losses. Every write is a compare-and-set on the phase."""

    async def watched(self) -> Sequence[Watched]:
        """Batches in progress with stop-loss and current counts, the oldest of each tenant first."""

    async def stop(self, batch_id: BatchId, reason: str) -> bool:
        """Cancel jobs that have not begun, and store the reason."""

    async def hold(self, batch_id: BatchId, projected: NanoUsd) -> bool:
        """Set the batch to wait for approval."""

    async def release(self, batch_id: BatchId, projected: NanoUsd | None) -> int:
        """Move one round of the rest to its lane; return how many.

        Returns 0 when none is left and the batch is only watched.
        """


class StopLosses:
    """Runs the stop-losses, as a duty of upkeep."""

    def __init__(self, rows: StopLossRows) -> None:
        self._rows = rows
        self._isolation = Isolation("watch_batches")

    async def look(self) -> int:
        """Judge every batch with a stop-loss once; return how many changed."""
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
    """The verdict on a batch. Pure."""
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
    """Release the rest if its projected cost is within the cap or nothing is held; else hold."""
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
