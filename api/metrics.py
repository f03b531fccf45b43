"""Metrics of the API, in a registry of their own."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Latency, requests in flight and abandoned requests. Labelled by route template, so ids create no series."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.in_flight = Gauge("penstock_http_requests_in_flight", "Requests being answered", registry=self._registry)
        self.seconds = Histogram(
            "penstock_http_request_seconds",
            "Time from the request's first byte to the answer's last",
            ["method", "route", "status"],
            buckets=BUCKETS_SECONDS,
            registry=self._registry,
        )
        self.abandoned = Counter(
            "penstock_http_requests_abandoned", "Requests whose client went away", registry=self._registry
        )

    def text(self) -> bytes:
        """Return the metrics of API and process in Prometheus' text format."""
        return generate_latest(self._registry) + generate_latest(REGISTRY)
