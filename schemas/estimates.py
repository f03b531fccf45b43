"""The learned token counts of prompts, and how the sums of two processes are combined."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.job import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """The scope of a lesson: one model, one shape of requests, and one set of features."""

    target: Target
    shape: str
    features: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One prompt as an estimate sees it; the provider's count for it improves the next estimate."""

    topic: Topic
    features: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Sums over calls, in which older calls weigh less."""

    calls: int
    values: tuple[float, ...]

    def followed_by(self, later: "Sums", kept: Sequence[float]) -> "Sums":
        """Add later calls to these; `kept` is the share that each value keeps per later call.

        Associative. Swapping two operands changes only how much of each has faded.
        """
        faded = (rate**later.calls for rate in kept)
        values = tuple(old * rate + new for old, rate, new in zip(self.values, faded, later.values, strict=True))
        return Sums(calls=self.calls + later.calls, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What one process adds to a topic. `fading` is the factor for every earlier value."""

    topic: Topic
    sums: Sums
    fading: tuple[float, ...]
