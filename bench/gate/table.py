"""Writes the gate benchmark's rows for people, each figure beside its promise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.gate.stage import Case, Result

UTILISED, UTILISED_WHEN_TOLD_WRONG = 0.98, 0.95
REFUSED, REFUSED_WHEN_TOLD_WRONG = 0.001, 0.02
CRITICAL_MS = 10.0
REDIS_CALLS = 3.0
SHARE_TOLERANCE = 0.3

Row = tuple[Case, Result]


def misses(case: Case, result: Result) -> list[str]:
    """Return the promises that a row does not keep; a naive row promises nothing."""
    word, _, share = case.promise.partition(" ")
    match word:
        case "tight":
            return _quota(result, UTILISED, REFUSED)
        case "loose":
            return _quota(result, UTILISED_WHEN_TOLD_WRONG, REFUSED_WHEN_TOLD_WRONG)
        case "critical":
            late = (result.critical_p99_ms or 0.0) > CRITICAL_MS
            asks = result.redis_calls_per_job > REDIS_CALLS
            slow = [f"critical p99 > {CRITICAL_MS:.0f} ms"] * late + [f"Redis calls per job > {REDIS_CALLS:.0f}"] * asks
            return _quota(result, UTILISED, REFUSED) + slow
        case "share":
            off = abs(result.share_of["low"] - float(share)) > SHARE_TOLERANCE * float(share)
            return [f"low is off its share of {float(share):.0%}"] * off
    return []


def _quota(result: Result, utilised: float, refused: float) -> list[str]:
    return [f"utilisation < {utilised}"] * (result.utilisation < utilised) + [f"429s > {refused:.1%}"] * (
        result.refused > refused
    )


def lines_of(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table."""
    heads = ("used", "429s", "calls", "crit p50", "crit p99", "low", "asks/job", "Redis/job")
    yield f"{'':<46}" + "".join(f"{head:>10}" for head in heads)
    for case, result in rows:
        missed = misses(case, result)
        verdict = "" if not case.promise else "  kept" if not missed else f"  MISSED: {', '.join(missed)}"
        yield f"{case.name:<46}" + "".join(f"{cell:>10}" for cell in _cells(result)) + verdict
    yield ""
    yield "used: accepted by the provider over what it refilled. 429s: of all calls. low: its part of the accepted."
    yield "crit: ms on the Redis server's clock from first question to granted slot; naive gates: on the caller's."


def _cells(result: Result) -> tuple[str, ...]:
    low = result.share_of.get("low")
    return (
        f"{result.utilisation:.3f}",
        f"{result.refused:.2%}",
        str(result.calls),
        *("" if wait is None else f"{wait:.2f}" for wait in (result.critical_p50_ms, result.critical_p99_ms)),
        "" if low is None else f"{low:.1%}",
        f"{result.asks_per_job:.2f}",
        f"{result.redis_calls_per_job:.2f}",
    )


def as_rows(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """Return the rows for programs."""
    return [{"case": case.name, **asdict(result), "missed": misses(case, result)} for case, result in rows]


def chosen(cases: Sequence[Case], word: str | None) -> list[Case]:
    """Return the cases whose name contains the word."""
    return [case for case in cases if word is None or word in case.name]
