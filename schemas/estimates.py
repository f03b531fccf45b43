"""What is learned about the size of prompts, and how two processes put together what each has learned."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.job import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """What a lesson is about: one model, one shape of requests, and the features that its numbers belong to."""

    target: Target
    shape: str
    features: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One prompt as an estimate sees it; what the provider counts for it teaches the next estimate."""

    topic: Topic
    features: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Sums over calls, in which older calls weigh less."""

    calls: int
    values: tuple[float, ...]

    def followed_by(self, later: "Sums", kept: Sequence[float]) -> "Sums":
        """These calls and then those; `kept` is what each value keeps of itself per call that comes after it.

        Associative. The order of two matters only by how much was forgotten in between.
        """
        faded = (rate**later.calls for rate in kept)
        values = tuple(old * rate + new for old, rate, new in zip(self.values, faded, later.values, strict=True))
        return Sums(calls=self.calls + later.calls, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What one process has to add about a topic. `fading` is what every earlier value is multiplied by."""

    topic: Topic
    sums: Sums
    fading: tuple[float, ...]
