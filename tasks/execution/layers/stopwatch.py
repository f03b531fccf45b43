"""A gate and a pause that note how long one job waited, over all its attempts."""

from collections.abc import Awaitable, Callable

from schemas.admission import Ask, Grant, Penalty, Refusal, Settlement, Wait
from schemas.ids import JobId
from schemas.job import Target
from tasks.execution.deps import Gate


class Stopwatch:
    """`tasks.execution.deps.Gate` over another, and the pause beside it; `clock` gives seconds."""

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
        """Whole milliseconds between asking and answers, and in pauses, so far."""
        return int(self._waited_seconds * 1000)

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask, and note how long it took."""
        began = self._clock()
        try:
            return await self._gate.admit(ask)
        finally:
            self._waited_seconds += self._clock() - began

    async def pause(self, seconds: float) -> None:
        """Sleep until a limit or a provider may have changed its mind."""
        await self._pause(seconds)
        self._waited_seconds += seconds

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the truth."""
        return await self._gate.settle(settlement)

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers."""
        await self._gate.penalize(target, penalty)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a refusal of this account."""
        return await self._gate.doubt_account(account, reason, job_id)
