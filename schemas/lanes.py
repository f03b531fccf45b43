"""The four priority classes; a lane's name is public interface."""

from dataclasses import dataclass
from enum import StrEnum


class Lane(StrEnum):
    """A priority class, in order of precedence."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def queue(self) -> str:
        """Celery queue, for example `completions.high`."""
        return f"completions.{self.value}"

    @property
    def rank(self) -> int:
        """Precedence, 0 first; also the index in admission scripts."""
        return tuple(Lane).index(self)


PUBLISHED_BY_INTAKE = frozenset({Lane.CRITICAL, Lane.HIGH})
"""Lanes that intake publishes; the dispatcher publishes the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Jobs of one lane for one model or alias; `run_ahead` are published and unclaimed."""

    lane: Lane
    model: str
    run_ahead: int
