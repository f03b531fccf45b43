"""Records metrics of admissions, calls and decisions."""

from config.metrics import Metrics
from schemas.admission import Ask, Grant, Refusal, Wait
from schemas.attempt import AttemptState, ClosedAttempt
from schemas.decision import Decision
from schemas.job import Target
from schemas.reply import Reply, Trouble

NOT_CALLED = "not_called"
"""Outcome label when the gate made the job wait or refused it."""


class MetricsObserver:
    """Counts the pipeline's work into a process's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def admitted(self, ask: Ask, answer: Grant | Wait | Refusal, seconds: float) -> None:
        """Observe the wait of a grant."""
        if isinstance(answer, Grant):
            self._metrics.admission_wait_seconds.labels(ask.lane.value).observe(seconds)

    def called(self, target: Target, answer: Reply | Trouble, seconds: float) -> None:
        """Count an ended call and its tokens."""
        name = str(target)
        self._metrics.call_seconds.labels(name).observe(seconds)
        self._metrics.attempts.labels(name, "reply" if isinstance(answer, Reply) else answer.kind.value).inc()
        if answer.usage is not None:
            self._metrics.tokens.labels(name, "input").inc(answer.usage.input_tokens)
            self._metrics.tokens.labels(name, "output").inc(answer.usage.output_tokens)

    def recorded(self, closed: ClosedAttempt | None, decision: Decision, *, kept: bool) -> None:
        """Count a decision, and the cost of a posted call."""
        outcome = closed.outcome if closed else NOT_CALLED
        self._metrics.decisions.labels(outcome, type(decision).__name__ if kept else "FenceLost").inc()
        if closed is not None and closed.state is AttemptState.POSTED:
            self._metrics.cost_nano_usd.inc(closed.cost_nano_usd)
