"""How deep the lanes are and what the budgets have spent, for scrapers; asked of the stores once in a while at most.

A store that is away costs its own gauges, never the scrape: `penstock_part_ready` tells of it.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from decimal import Decimal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.house import Watch
from schemas.errors import Unavailable

BELIEVED_SECONDS = 10.0
"""Counting a backlog of a million takes a good part of a second, however many scrapers ask."""

AMOUNTS = ("limit_usd", "settled_usd", "reserved_usd")


class HouseGauges:
    """The last reading as text, renewed when it is older than `BELIEVED_SECONDS`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text = b""
        self._stale_at = float("-inf")

    async def text(self, watch: Watch) -> bytes:
        """The gauges in Prometheus' text format. Several askers at once cost one reading."""
        if self._clock() >= self._stale_at:
            self._stale_at = self._clock() + BELIEVED_SECONDS
            self._text = _text_of([metric async for metric in _read(watch)])
        return self._text


class _Known(Collector):
    """A collector of what was read before."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _text_of(metrics: list[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Known(metrics))
    return generate_latest(registry)


async def _read(watch: Watch) -> AsyncIterator[Metric]:
    for reading in (_parts, _depths, _budgets, _thresholds):
        try:
            yield await reading(watch)
        except Unavailable:
            continue


async def _parts(watch: Watch) -> Metric:
    family = GaugeMetricFamily("penstock_part_ready", "Whether a thing that work needs is there", labels=["part"])
    for part, wrong in (await watch.check()).items():
        family.add_metric([part], 0 if wrong else 1)
    return family


async def _depths(watch: Watch) -> Metric:
    family = GaugeMetricFamily("penstock_jobs", "Jobs that are not at rest", labels=["lane", "state"])
    for (lane, state), jobs in (await watch.depths()).items():
        family.add_metric([lane.value, state.value], jobs)
    return family


async def _budgets(watch: Watch) -> Metric:
    family = GaugeMetricFamily(
        "penstock_budget_usd", "Money of the windows that run now", labels=["scope", "window", "amount"]
    )
    for row in await watch.budgets():
        for amount in AMOUNTS:
            label = amount.removesuffix("_usd")
            family.add_metric([str(row["scope"]), str(row["window"]), label], float(Decimal(str(row[amount]))))
    return family


async def _thresholds(watch: Watch) -> Metric:
    family = CounterMetricFamily(
        "penstock_budget_thresholds_passed", "Budgets that reached a percentage", labels=["scope", "percent"]
    )
    for (scope, percent), times in (await watch.thresholds()).items():
        family.add_metric([scope, str(percent)], times)
    return family
