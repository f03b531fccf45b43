"""Counts what happened to a job within one lease, for `decide`."""

from dataclasses import dataclass, replace
from datetime import datetime

from schemas.admission import TENANT_REASONS, WaitReason
from schemas.decision import AskAgain, WaitInPlace
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.outcome import Failed, Invalid, NotAdmitted, Outcome, Truncated
from schemas.reply import TroubleKind

_THROTTLES = frozenset({TroubleKind.THROTTLE, TroubleKind.RAMP})


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Holds counts since the claim, the body to send next, and its target.

    `streamed`: the caller has received a chunk, which cannot be taken back. `patient_until`: the end of a synchronous
    caller's wait. `waited_seconds` sums admission and pauses.
    """

    body: JsonObject
    chain: tuple[Target, ...]
    position: int = 0
    reprompts: int = 0
    extensions: int = 0
    throttles: int = 0
    streamed: bool = False
    patient_until: datetime | None = None
    waiting_since: datetime | None = None
    wait_reason: str | None = None
    waited_seconds: float = 0.0

    @property
    def target(self) -> Target:
        """Return the target of the next attempt."""
        return self.chain[self.position]

    @property
    def has_next_target(self) -> bool:
        """Tell whether another target follows."""
        return self.position + 1 < len(self.chain)

    @property
    def waits_for_share(self) -> bool:
        """Tell whether the job waits for its tenant's share, not for the bucket."""
        return self.wait_reason in TENANT_REASONS

    def waited(self, reason: WaitReason, asked_at: datetime) -> "Progress":
        """Start a wait for `reason`, or continue the same one."""
        waits = replace(self, wait_reason=reason)
        goes_on = self.waiting_since is not None and waits.waits_for_share == self.waits_for_share
        return waits if goes_on else replace(waits, waiting_since=asked_at)

    def after(self, outcome: Outcome, decision: AskAgain | WaitInPlace) -> "Progress":
        """Apply a decision within the lease."""
        body, position, waiting_since = self.body, self.position, None
        if isinstance(decision, WaitInPlace):
            waiting_since = decision.waiting_since
        else:
            body, position = decision.body, position + (1 + decision.skips if decision.next_target else 0)
        return replace(
            self,
            body=body,
            position=position,
            reprompts=self.reprompts + isinstance(outcome, Invalid),
            extensions=self.extensions + isinstance(outcome, Truncated),
            waiting_since=waiting_since,
            wait_reason=outcome.reason if isinstance(outcome, NotAdmitted) else None,
            throttles=self.throttles + (isinstance(outcome, Failed) and outcome.trouble.kind in _THROTTLES),
        )
