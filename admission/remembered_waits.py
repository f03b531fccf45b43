"""Remembers long waits, so that a process skips round trips that must fail."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from schemas.admission import TENANT_REASONS, Ask, Wait, WaitReason
from schemas.ids import TenantId
from schemas.job import Target
from schemas.lanes import Lane

_Flow: TypeAlias = tuple[Target | TenantId, Lane]

LONGEST_MEMORY_SECONDS = 1.0
"""Limit of trust in a long wait, so that a raised limit takes effect within a second."""


@dataclass(slots=True)
class _Shut:
    """A lane of a target or tenant with a long wait."""

    ask_again_at: float
    opens_at: float
    reason: WaitReason


class RememberedWaits:
    """The long waits of one process. `jitter` is uniform in [0, 1)."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._shut: dict[_Flow, _Shut] = {}

    def of(self, ask: Ask, now: float) -> Wait | None:
        """Return the remembered wait for this ask, if any."""
        return next((wait for flow in _flows(ask) if (wait := self._of(flow, now)) is not None), None)

    def remember(self, ask: Ask, wait: Wait, hold_seconds: float, now: float) -> None:
        """Remember a long wait: for the tenant if its share is used up, else for the target's lane."""
        opens_at = now + wait.retry_after_ms / 1_000
        ask_again_at = min(opens_at - hold_seconds, now + LONGEST_MEMORY_SECONDS)
        if ask_again_at > now:
            flow = _flows(ask)[-1 if wait.reason in TENANT_REASONS else 0]
            self._shut[flow] = _Shut(ask_again_at, opens_at, wait.reason)

    def _of(self, flow: _Flow, now: float) -> Wait | None:
        shut = self._shut.get(flow)
        if shut is None or shut.ask_again_at <= now:
            self._shut.pop(flow, None)
            return None
        spread_seconds = self._jitter() * LONGEST_MEMORY_SECONDS
        return Wait(retry_after_ms=int((shut.opens_at - now + spread_seconds) * 1_000), reason=shut.reason)


def _flows(ask: Ask) -> tuple[_Flow, ...]:
    """Keys of remembered waits: the target's lane, and the tenant's if it has a share."""
    of_target: _Flow = (ask.bucket, ask.lane)
    return (of_target,) if ask.share is None else (of_target, (ask.share.tenant_id, ask.lane))
