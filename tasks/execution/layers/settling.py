"""Tolerates an unavailable Redis at settlement, so that the job does not fail.

Postgres knows how the attempt ended, and upkeep settles it in Redis when its reservation expires. Without Redis,
admission still sends nothing.
"""

import structlog

from admission.local_gate import LocalGate
from schemas.admission import Ask, Grant, Penalty, Refusal, RefusalReason, Settlement, Wait
from schemas.errors import RedisUnavailable
from schemas.ids import JobId
from schemas.job import Target
from schemas.money import usd_text

log = structlog.get_logger()


class SettlingGate:
    """`tasks.execution.deps.Gate` around a process's gate."""

    def __init__(self, gate: LocalGate) -> None:
        self._gate = gate
        self._away = False

    @property
    def epoch(self) -> int:
        """The ledger epoch that this process knows."""
        return self._gate.epoch

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask for admission, waiting in place up to `hold_seconds`. Without Redis nothing is admitted."""
        try:
            return await self._gate.admit(ask)
        except RedisUnavailable as error:
            log.debug("gate_away", reason=error.message)
            return Refusal(reason=RefusalReason.NOT_READY)

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the actual usage and cost; False also without Redis."""
        if settlement.actual_nano_usd > settlement.grant.cost_nano_usd:
            log.warning("cost_beyond_reservation", **_beyond(settlement))
        try:
            settled = await self._gate.settle(settlement)
        except RedisUnavailable as error:
            if not self._away:
                log.warning("settlements_wait_for_redis", stamp=settlement.grant.stamp, reason=error.message)
            self._away = True
            return False
        self._away = False
        return settled

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers. Without Redis, each learns it from its own refusal."""
        try:
            await self._gate.penalize(target, penalty)
        except RedisUnavailable as error:
            log.warning("penalty_lost", target=str(target), reason=error.message)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a rejection of this account. Without Redis, the next job's rejection is counted."""
        try:
            stopped = await self._gate.doubt_account(account, reason, job_id)
        except RedisUnavailable as error:
            log.warning("doubt_lost", account=account, reason=error.message)
            return False
        if stopped:
            log.error("account_stopped", account=account, reason=reason)
        else:
            log.warning("account_doubted", account=account, reason=reason)
        return stopped


def _beyond(settlement: Settlement) -> dict[str, object]:
    """Log fields of a cost above its reservation, which is booked in full.

    Causes: a dearer tier than configured, or tokens beyond the output limit.
    """
    grant = settlement.grant
    return {
        "stamp": grant.stamp,
        "target": str(grant.target),
        "reserved_usd": usd_text(grant.cost_nano_usd),
        "cost_usd": usd_text(settlement.actual_nano_usd),
    }
