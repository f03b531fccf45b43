"""What a change costs: one `penstock bench` in another checkout and in this one, in turns, as ratios with an interval.

Run by `python -m bench.pairs OTHER_CHECKOUT overhead --pairs 9 --jobs 4000`, after `scripts/setup` in both. Each pair
runs within the same minutes, in alternating order. A figure is the median of the ratios this / other. Its interval lies
between order statistics and holds the median with at least 95 % confidence (for nine pairs the second smallest to the
second largest). Nothing else may run beside it.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from math import comb
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

CONFIDENCE = 0.95
FEWEST_PAIRS = 6
"""With fewer pairs, not even the extremes hold the median with this confidence."""

LONGEST_RUN_SECONDS = 900.0
HERE = Path(__file__).resolve().parents[1]

Figures: TypeAlias = Mapping[str, float]


def overhead_figures(result: Any) -> Figures:  # noqa: ANN401 - parsed JSON
    """Return throughput and CPU of the stack, absolute and relative to the bare client of the same run."""
    stack = result["stack"]
    return {
        "jobs per second": stack["jobs_per_second"],
        "jobs per second of bare calls": result["throughput_ratio"],
        "worker CPU of bare calls": result["cpu_ratio"],
        "CPU of all processes": sum(stack["cpu_ms_per_job"].values()),
    }


def gate_figures(result: Any) -> Figures:  # noqa: ANN401 - parsed JSON
    """Return the used part of the quota, by row."""
    return {f"used: {row['case']}": row["utilisation"] for row in result if row["utilisation"] > 0}


FIGURES: Mapping[str, Callable[[Any], Figures]] = {
    "overhead": overhead_figures,
    "quota": gate_figures,
    "lanes": gate_figures,
}


def measured(checkout: Path, name: str, words: Sequence[str]) -> Figures:
    """Run once in a checkout, with its own installation. A row that misses its promise still counts."""
    command = [str(checkout / ".venv/bin/penstock"), "bench", name, *words, "--json"]
    run = subprocess.run(
        command,
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=LONGEST_RUN_SECONDS,
        check=False,
    )
    result = re.search(rb"^[{\[]$.*", run.stdout, re.DOTALL | re.MULTILINE)  # its steps may log before it
    if result is None:
        sys.exit(f"bench {name} in {checkout} ended with {run.returncode} and printed no figures")
    return FIGURES[name](json.loads(result[0]))


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the tightest order statistics that hold the median with `CONFIDENCE`, else the extremes."""
    ordered, count = sorted(ratios), len(ratios)
    outside, left_out = 0.0, 0
    while left_out < count // 2 and 2 * (outside + comb(count, left_out) / 2**count) <= 1 - CONFIDENCE:
        outside += comb(count, left_out) / 2**count
        left_out += 1
    left_out = max(left_out - 1, 0)
    return ordered[left_out], ordered[-1 - left_out]


def main() -> None:
    """Run the pairs and print a row per figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="another checkout, as the version before a change")
    parser.add_argument("name", choices=sorted(FIGURES))
    parser.add_argument("--pairs", type=int, default=9)
    given, words = parser.parse_known_args()  # unknown arguments go to the benchmark
    if given.pairs < FEWEST_PAIRS:
        parser.error(f"at least {FEWEST_PAIRS} pairs are needed")
    pairs: list[tuple[Figures, Figures]] = []
    for number in range(given.pairs):
        order = (given.other, HERE) if number % 2 == 0 else (HERE, given.other)
        run = {checkout: measured(checkout, given.name, words) for checkout in order}
        pairs.append((run[given.other], run[HERE]))
        print(f"pair {number + 1} of {given.pairs}", file=sys.stderr, flush=True)  # noqa: T201 - a benchmark speaks
    print(f"bench {given.name}: {given.pairs} pairs, this / other")  # noqa: T201
    for figure in pairs[0][0]:
        ratios = [here[figure] / other[figure] for other, here in pairs if figure in here and other.get(figure)]
        low, high = interval(ratios)
        before = median(other[figure] for other, _ in pairs if figure in other)
        after = median(here[figure] for _, here in pairs if figure in here)
        print(  # noqa: T201
            f"{figure:<46}{before:>10.3f} -> {after:>10.3f}   median {median(ratios):.3f}  [{low:.3f}, {high:.3f}]"
        )


if __name__ == "__main__":
    main()
