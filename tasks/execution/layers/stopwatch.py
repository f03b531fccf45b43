"""Measures how long one job waited for admission and in pauses, over all its attempts."""

from collections.abc import Awaitable, Callable

from schemas.admission import Ask, Grant, Penalty, Refusal, Settlement, Wait
from schemas.ids import JobId
from schemas.job import Target
from tasks.execution.deps import Gate


class Stopwatch:
    """`tasks.execution.deps.Gate` around another, with a matching pause; `clock` gives seconds."""

    def __init__(self, gate: Gate, pause: Callable[[float], Awaitable[None]], *, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._pause = pause
        self._clock = clock
        self._waited_seconds = 0.0

    @property
    def epoch(self) -> int:
        """The ledger epoch that this process knows."""
        return self._gate.epoch

    @property
    def waited_ms(self) -> int:
        """Milliseconds spent in admission and in pauses so far."""
        return int(self._waited_seconds * 1000)

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask for admission and add the time it took."""
        began = self._clock()
        try:
            return await self._gate.admit(ask)
        finally:
            self._waited_seconds += self._clock() - began

    async def pause(self, seconds: float) -> None:
        """Sleep, and add the time."""
        await self._pause(seconds)
        self._waited_seconds += seconds

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the actual usage and cost."""
        return await self._gate.settle(settlement)

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers."""
        await self._gate.penalize(target, penalty)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a rejection of this account."""
        return await self._gate.doubt_account(account, reason, job_id)
