"""Types for learned token counts of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.job import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """Scope of a lesson: model, request shape and feature set."""

    target: Target
    shape: str
    features: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One prompt's features, to learn from the provider's count."""

    topic: Topic
    features: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Sums over calls; older calls weigh less."""

    calls: int
    values: tuple[float, ...]

    def followed_by(self, later: "Sums", kept: Sequence[float]) -> "Sums":
        """Add later calls; each value keeps `kept` per later call. Associative."""
        faded = (rate**later.calls for rate in kept)
        values = tuple(old * rate + new for old, rate, new in zip(self.values, faded, later.values, strict=True))
        return Sums(calls=self.calls + later.calls, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One process's addition to a topic; `fading` multiplies every earlier value."""

    topic: Topic
    sums: Sums
    fading: tuple[float, ...]
