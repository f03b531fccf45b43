"""Estimates prompt tokens, learns from each reply, and shares lessons.

Invariant: an estimate lies between one token and the byte bound. Estimates are never used for money.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from providers.tokens.calibration import Calibration, Prior
from providers.tokens.counting import Counter
from providers.tokens.features import BYTE_CLASSES, Prompt, features_of, prompt_of, sample_of
from schemas.estimates import Lesson, Measured, Sums, Topic
from schemas.job import Target
from schemas.jsons import JsonObject

BY_BYTES = Prior(
    weights=(
        *(0.8, 0.9, 0.75),  # words, numbers, groups of marks
        *(0.05, 0.1, 0.15, 0.15, 0.7, 0.1),  # lower, upper, digits, marks, newlines, double spaces
        *(0.5, 0.5, 0.3, 0.5),  # aB, Ba, a1, 1a
        *(0.7, 0.2, 0.3, 0.5, 0.85, 0.8, 0.6, 1.0, 2.5),  # per character of each script
        *(1.0, 4.0, 3.0),  # bound of media, messages, the request
    ),
    margin=1.35,
)
"""Between two public vocabularies of 100,000 and 200,000 tokens, over thirteen kinds of text."""

BY_COUNT = Prior(weights=(1.0, 1.0, 4.0, 3.0), margin=1.05)
"""Counted tokens, media, messages (each framed by three tokens and a role), and the request."""

MOST_UNSENT_CALLS = 200
"""Unsent calls that make a calibrated topic worth sharing, so that writes stay rare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Permits to ask for; `measured` is None if nothing can be learned."""

    tokens: int
    measured: Measured | None


class Estimates:
    """One calibration per topic, in one process."""

    def __init__(self, counter_for: Callable[[str], Counter | None]) -> None:
        self._counter_for = counter_for
        self._calibrations: dict[Topic, Calibration] = {}

    def estimate(self, target: Target, body: JsonObject, bound: int) -> Estimate:
        """Estimate with margin, at most `bound`; `bound` if it is no chat request."""
        prompt = prompt_of(body)
        if prompt is None:
            return Estimate(tokens=bound, measured=None)
        measured = self._measured(target, prompt)
        tokens = self._calibration(measured.topic).with_margin(measured.features)
        return Estimate(tokens=min(tokens, bound), measured=measured)

    def likely(self, measured: Measured) -> float:
        """Return the most probable tokens, without margin and bound."""
        return self._calibration(measured.topic).likely(measured.features)

    def learn(self, measured: Measured, tokens: int) -> None:
        """Learn from the provider's count."""
        if tokens > 0:
            self._calibration(measured.topic).learn(measured.features, tokens)

    def lessons(self) -> list[Lesson]:
        """Return lessons to share; call `shared` or `not_shared` afterwards."""
        return [
            _lesson(topic, calibration)
            for topic, calibration in self._calibrations.items()
            if calibration.is_worth_sending(MOST_UNSENT_CALLS)
        ]

    def shared(self, known: Mapping[Topic, Sums]) -> None:
        """Adopt the shared sums of all processes."""
        for topic, sums in known.items():
            self._calibration(topic).sent(sums)

    def not_shared(self, lessons: Iterable[Lesson]) -> None:
        """Keep lessons that did not arrive."""
        for lesson in lessons:
            self._calibrations[lesson.topic].not_sent()

    def _measured(self, target: Target, prompt: Prompt) -> Measured:
        counter = self._counter_for(target.model)
        if counter is None:
            name, features = BYTE_CLASSES, features_of(prompt)
        else:
            sample, scale = sample_of(prompt.text)
            counted = counter.count(sample) * scale
            name, features = counter.name, (counted, float(prompt.media_tokens), float(prompt.messages), 1.0)
        return Measured(topic=Topic(target=target, shape=prompt.shape, features=name), features=features)

    def _calibration(self, topic: Topic) -> Calibration:
        calibration = self._calibrations.get(topic)
        if calibration is None:
            calibration = self._calibrations[topic] = Calibration(_PRIORS.get(topic.features, BY_COUNT))
        return calibration


_PRIORS: Mapping[str, Prior] = {BYTE_CLASSES: BY_BYTES}


def _lesson(topic: Topic, calibration: Calibration) -> Lesson:
    sums = calibration.send()
    return Lesson(topic=topic, sums=sums, fading=tuple(rate**sums.calls for rate in calibration.kept))
