"""Collects gauges of lanes, limits and budgets for scrapers.

An unreachable store omits only its own gauges, and unknown values have no sample. Labels are closed sets and configured
names, which bounds the number of series. Users, batches and prompts are unbounded and name persons.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Protocol

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.errors import Unavailable
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.states import JobState
from storage.ledger.unresolved import SuspenseTotal
from storage.queue.waiting_counts import MOST_COUNTED

BELIEVED_SECONDS = 10.0
"""Counting a million waiting jobs takes a good part of a second, so scrapers share a reading."""

UNLABELLED_KINDS = frozenset({"user", "batch", "prompt"})
"""Scope kinds that must not become labels."""

AMOUNTS = ("limit_usd", "settled_usd", "reserved_usd")
FIGURES = ("configured", "learned", "effective", "used")


class Watch(Protocol):
    """Reads limits, budgets and readiness."""

    async def check(self) -> Mapping[str, str | None]:
        """Map each dependency to its complaint, or None."""

    async def limits(self) -> Sequence[JsonObject]:
        """Return rows per target and limit. Raises RedisUnavailable."""

    async def budgets(self) -> Sequence[JsonObject]:
        """Return rows per scope and window. Raises RedisUnavailable."""

    async def suspense(self) -> Sequence[SuspenseTotal]:
        """Return unresolved charges by account. Raises PostgresUnavailable."""

    async def thresholds(self) -> Mapping[tuple[str, int], int]:
        """Return how often each scope passed each percentage. Raises PostgresUnavailable."""

    async def depths(self) -> Mapping[tuple[Lane, JobState], int]:
        """Count jobs that are not terminal. Raises PostgresUnavailable."""


class ServiceGauges:
    """Caches the last reading for `BELIEVED_SECONDS`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text = b""
        self._stale_at = float("-inf")

    async def text(self, watch: Watch) -> bytes:
        """Return the gauges in Prometheus' text format."""
        if self._clock() >= self._stale_at:
            self._stale_at = self._clock() + BELIEVED_SECONDS
            self._text = generate_latest(_Reading(await _read(watch)))
        return self._text


class _Reading(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


async def _read(watch: Watch) -> Sequence[Metric]:
    metrics = list[Metric]()
    for reading in (_parts, _depths, _limits, _budgets, _suspense, _thresholds):
        with suppress(Unavailable):
            metrics += await reading(watch)
    return metrics


async def _parts(watch: Watch) -> Sequence[Metric]:
    family = GaugeMetricFamily("penstock_part_ready", "Whether a thing that work needs is there", labels=["part"])
    for part, wrong in (await watch.check()).items():
        family.add_metric([part], 0 if wrong else 1)
    return [family]


async def _depths(watch: Watch) -> Sequence[Metric]:
    family = GaugeMetricFamily("penstock_jobs", "Jobs that are not at rest", labels=["lane", "state"])
    for (lane, state), jobs in (await watch.depths()).items():
        family.add_metric([lane.value, state.value], jobs)
    return [family]


async def _limits(watch: Watch) -> Sequence[Metric]:
    rows = await watch.limits()
    figures = GaugeMetricFamily(
        "penstock_limit",
        "What may pass of a target's limit a minute or a day, or at once, and what was used of it",
        labels=["target", "limit", "figure"],
    )
    for row in rows:
        for figure in FIGURES:
            if row[figure] is not None:
                figures.add_metric([row["target"], row["limit"], figure], row[figure])
    return [figures, *_of_targets({row["target"]: row for row in rows})]


def _of_targets(targets: Mapping[str, JsonObject]) -> Sequence[Metric]:
    waiting = GaugeMetricFamily(
        "penstock_waiting_jobs", f"Jobs that wait for a target, counted up to {MOST_COUNTED}", labels=["target", "lane"]
    )
    frozen = GaugeMetricFamily("penstock_frozen_seconds", "How long nothing is sent to a target", labels=["target"])
    stopped = GaugeMetricFamily("penstock_account_stopped", "Whether its account is stopped", labels=["target"])
    for target, row in targets.items():
        frozen.add_metric([target], row["frozen_seconds"])
        stopped.add_metric([target], row["stopped"] is not None)
        for lane in Lane if row["waiting"] is not None else ():
            waiting.add_metric([target, lane.value], row["waiting"].get(lane.value, {"jobs": 0})["jobs"])
    return [waiting, frozen, stopped]


async def _budgets(watch: Watch) -> Sequence[Metric]:
    family = GaugeMetricFamily(
        "penstock_budget_usd", "Money of the windows that run now", labels=["scope", "window", "amount"]
    )
    for row in await watch.budgets():
        if _kind(row["scope"]) in UNLABELLED_KINDS:
            continue
        for amount in AMOUNTS:
            label = amount.removesuffix("_usd")
            family.add_metric([str(row["scope"]), str(row["window"]), label], float(Decimal(str(row[amount]))))
    return [family]


async def _suspense(watch: Watch) -> Sequence[Metric]:
    attempts = GaugeMetricFamily(
        "penstock_suspense_attempts", "Calls that may have been billed, and nobody knows", labels=["account"]
    )
    money = GaugeMetricFamily(
        "penstock_suspense_nano_usd", "What is reserved for them, in nano-dollars", labels=["account"]
    )
    for total in await watch.suspense():
        attempts.add_metric([total.account], total.attempts)
        money.add_metric([total.account], total.nano_usd)
    return [attempts, money]


async def _thresholds(watch: Watch) -> Sequence[Metric]:
    family = CounterMetricFamily(
        "penstock_budget_thresholds_passed", "Budgets that reached a percentage", labels=["scope", "percent"]
    )
    sums: Counter[tuple[str, int]] = Counter()
    for (scope, percent), times in (await watch.thresholds()).items():
        kind = _kind(scope)
        sums[kind if kind in UNLABELLED_KINDS else scope, percent] += times
    for (label, percent), times in sums.items():
        family.add_metric([label, str(percent)], times)
    return [family]


def _kind(scope: str) -> str:
    return scope.partition(":")[0]
