"""Learns to estimate prompt tokens from providers' counts. Pure.

A size is a weighted sum of features. The weights solve least squares over past calls, weighted by 1 / size squared and
fading with age. Sums are kept (recursive least squares in information form), because those of processes add up. The
margin is a quantile of truth over estimate.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from schemas.estimates import Sums

REMEMBERED = 0.998
"""Weight that a call keeps per later call: about 500 calls are remembered, each standing for four."""

MARGIN_REMEMBERED = 0.995
"""The margin remembers the last 200, so early errors fade soon."""

COVERED = 0.95
LEAST_MARGIN, MOST_MARGIN = 0.9, 2.0
"""Beyond a factor of two the estimate is wrong rather than uncertain."""

STEPS = 40
"""Histogram steps of 2 % between the margins, plus one at either end."""

BELIEF = 0.01
"""Weight of the prior: a hundred calls outvote it in every feature."""

MARGIN_BELIEF = 20.0
"""Calls that the prior margin counts for; fewer as the memory fills."""

MOST_UNABSORBED = 16
"""Calls added together, so that fading is computed once."""

CALLS_PER_SOLUTION = 64
"""A solution costs about 1 ms, so weights may lag by this many calls."""

CALIBRATED_CALLS = 1_000
ONE_OF = 4
"""After `CALIBRATED_CALLS`, one call of four suffices to follow changes."""

_EDGES: list[float] = [LEAST_MARGIN * (MOST_MARGIN / LEAST_MARGIN) ** (step / STEPS) for step in range(STEPS + 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Assumed tokens per unit of feature (above 0), and margin."""

    weights: tuple[float, ...]
    margin: float


class Calibration:
    """The sums of one topic: shared with other processes, being sent, and unsent."""

    def __init__(self, prior: Prior) -> None:
        self._prior = prior
        self.kept = _kept(len(prior.weights))
        self._shared = self._sending = self._unsent = self._nothing = Sums(calls=0, values=(0.0,) * len(self.kept))
        self._observed: list[tuple[Sequence[float], int, float]] = []
        self._weights: Sequence[float] = prior.weights
        self._margin = prior.margin
        self._unsolved = self._skipped = 0

    def likely(self, features: Sequence[float]) -> float:
        """Return the most probable tokens of a prompt."""
        return max(1.0, sum(map(float.__mul__, self._weights, features)))

    def with_margin(self, features: Sequence[float]) -> int:
        """Return tokens that 95 of 100 such prompts do not exceed."""
        return math.ceil(self.likely(features) * self._margin)

    def learn(self, features: Sequence[float], tokens: int) -> None:
        """Learn from the provider's count, at least one token."""
        calls = self._shared.calls + self._unsent.calls + self._sending.calls
        self._skipped += 1
        if calls >= CALIBRATED_CALLS and self._skipped < ONE_OF:
            return
        self._skipped = 0
        self._observed.append((features, tokens, tokens / self.likely(features)))
        if len(self._observed) > min(MOST_UNABSORBED - 1, calls // 8):
            self._absorb()
            if self._unsolved >= min(CALLS_PER_SOLUTION, 1 + calls // 16):
                self._solve()

    def is_worth_sending(self, most: int) -> bool:
        """Whether the unsent calls are 1 % of the shared ones, or `most`."""
        unsent = self._unsent.calls + len(self._observed)
        return unsent > 0 and unsent >= min(most, self._shared.calls // 100)

    def send(self) -> Sums:
        """Return the unsent sums; call `sent` or `not_sent` afterwards."""
        self._absorb()
        self._sending, self._unsent = self._sending.followed_by(self._unsent, self.kept), self._nothing
        return self._sending

    def sent(self, shared: Sums) -> None:
        """Adopt the sums of all processes, this one included; another length is ignored."""
        if len(shared.values) == len(self.kept):
            self._shared, self._sending = shared, self._nothing
            self._solve()

    def not_sent(self) -> None:
        """Keep sums that did not arrive, to be sent later."""
        self._unsent, self._sending = self._sending.followed_by(self._unsent, self.kept), self._nothing

    def _absorb(self) -> None:
        if self._observed:
            new = Sums(calls=len(self._observed), values=_sums(self._observed, len(self._weights)))
            self._unsent = self._unsent.followed_by(new, self.kept)
            self._unsolved += new.calls
            self._observed = []

    def _solve(self) -> None:
        shared = self._shared.followed_by(self._sending, self.kept)
        values = shared.followed_by(self._unsent, self.kept).values
        self._weights = _solution(values, self._prior.weights)
        self._margin = _quantile(values[-STEPS - 2 :], self._prior.margin)
        self._unsolved = 0


def _kept(size: int) -> tuple[float, ...]:
    return (REMEMBERED,) * (_triangle(size) + size) + (MARGIN_REMEMBERED,) * (STEPS + 2)


def _triangle(size: int) -> int:
    return size * (size + 1) // 2


def _sums(observed: Sequence[tuple[Sequence[float], int, float]], size: int) -> tuple[float, ...]:
    """Returns feature products (lower triangle), features over size, and histogram."""
    products, over_size, histogram = [0.0] * _triangle(size), [0.0] * size, [0.0] * (STEPS + 2)
    for features, tokens, ratio in observed:
        present = [(place, count / tokens) for place, count in enumerate(features) if count]
        for number, (place, share) in enumerate(present, 1):
            row = _triangle(place)
            over_size[place] += share
            for other, other_share in present[:number]:
                products[row + other] += share * other_share
        histogram[bisect_right(_EDGES, ratio)] += 1.0
    return (*products, *over_size, *histogram)


def _solution(values: Sequence[float], prior: Sequence[float]) -> list[float]:
    """Fits weights by Cholesky, pulled towards the prior where calls are few.

    A pivot is never below the prior's part, whatever the rounding.
    """
    size = len(prior)
    lower: list[list[float]] = []
    halfway: list[float] = []
    for i, believed in enumerate(prior):
        pull = BELIEF / believed**2
        row = list(values[_triangle(i) : _triangle(i) + i + 1])
        row[i] += pull
        for j, above in enumerate(lower):
            row[j] = (row[j] - sum(map(float.__mul__, row[:j], above))) / above[j]
        row[i] = math.sqrt(max(pull, row[i] - math.fsum(part * part for part in row[:i])))
        right = values[_triangle(size) + i] + pull * believed
        halfway.append((right - sum(map(float.__mul__, row, halfway))) / row[i])
        lower.append(row)
    weights = [0.0] * size
    for i in reversed(range(size)):
        weights[i] = (halfway[i] - sum(lower[k][i] * weights[k] for k in range(i + 1, size))) / lower[i][i]
    return weights


def _quantile(histogram: Sequence[float], prior_margin: float) -> float:
    """Interpolates the 95 % quantile within its histogram step."""
    believed, empty = bisect_right(_EDGES, prior_margin), max(0.0, 1 - sum(histogram) * (1 - MARGIN_REMEMBERED))
    prior = MARGIN_BELIEF * empty**2 / believed
    counts = [count + prior * (0 < step <= believed) for step, count in enumerate(histogram)]
    below = list(accumulate(counts))
    rank = COVERED * below[-1]
    step = next(number for number, total in enumerate(below) if total >= rank)
    if step == 0 or step > STEPS:
        return LEAST_MARGIN if step == 0 else MOST_MARGIN
    part = (rank - below[step - 1]) / counts[step]
    return _EDGES[step - 1] + part * (_EDGES[step] - _EDGES[step - 1])
