"""The four priority classes. A lane is one Celery queue; its name is public interface."""

from dataclasses import dataclass
from enum import StrEnum


class Lane(StrEnum):
    """A priority class; the order of definition is the order of precedence."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def queue(self) -> str:
        """The Celery queue of this lane, for example `completions.high`."""
        return f"completions.{self.value}"

    @property
    def rank(self) -> int:
        """Precedence: 0 is the most urgent. Also the lane's index in the admission scripts."""
        return tuple(Lane).index(self)


PUBLISHED_BY_INTAKE = frozenset({Lane.CRITICAL, Lane.HIGH})
"""Lanes whose jobs intake publishes itself; the dispatcher publishes the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """The jobs of one lane for one model or alias. `run_ahead` of them are published and not yet claimed."""

    lane: Lane
    model: str
    run_ahead: int
