"""Figures that trials come to: noted by the tests, printed as one table at the end of the run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row: what was tried, what was measured, what came out, what it must be."""

    trial: str
    measure: str
    value: str
    bar: str


@dataclass
class Figures:
    """All rows of one run, in the order in which they were noted."""

    rows: list[Figure] = field(default_factory=list)

    def note(self, trial: str, measure: str, value: object, bar: object = "") -> None:
        """Add a row; floats are shown with three digits."""
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        self.rows.append(Figure(trial=trial, measure=measure, value=shown, bar=str(bar)))

    def table(self) -> list[str]:
        """Return the lines of the table, its columns aligned."""
        rows = [("trial", "measure", "figure", "bar"), *((r.trial, r.measure, r.value, r.bar) for r in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


FIGURES = Figures()
"""Those of this process."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
