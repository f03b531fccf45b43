"""The Prometheus metrics of a process, all named `penstock_*`.

Processes never fork, so a plain registry is enough. Labels are closed sets or configured names, never ids.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

WAIT_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CALL_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 20, 30, 60, 120, 300, 600)
DELAY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The metrics of one process. The library appends `_total` to counters."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.decisions = self._counter(
            "penstock_job_decisions", "Outcomes of attempts and what was done about them", "outcome", "decision"
        )
        self.attempts = self._counter("penstock_attempts", "Calls that came to an end", "target", "outcome")
        self.tokens = self._counter("penstock_tokens", "Model tokens used", "target", "direction")
        self.cost_nano_usd = self._counter("penstock_cost_nano_usd", "Cost of calls in nano-dollars; 1e9 is one USD")
        self.messages = self._counter("penstock_messages", "Messages taken from the lanes", "lane", "task", "end")
        self.unreadable_items = self._counter(
            "penstock_unreadable_items", "Items of the lanes' lists that were no messages, and were dropped"
        )
        self.publishes = self._counter("penstock_publishes", "Messages put onto the lanes", "lane")
        self.admission_wait_seconds = self._histogram(
            "penstock_admission_wait_seconds", "From the first ask to the grant", WAIT_BUCKETS_SECONDS, "lane"
        )
        self.call_seconds = self._histogram(
            "penstock_call_seconds", "From sending a call to its answer", CALL_BUCKETS_SECONDS, "target"
        )
        self.loop_delay_seconds = self._histogram(
            "penstock_loop_delay_seconds", "How late the event loop runs what is due", DELAY_BUCKETS_SECONDS
        )
        self.held_leases = self._gauge("penstock_held_leases", "Jobs whose lease this process holds")
        self.slots_in_use = self._gauge("penstock_slots_in_use", "Jobs that hold a slot of this process")
        self.slots_waited_for = self._gauge("penstock_slots_waited_for", "Jobs that are here and hold no slot yet")

    def serve(self, port: int) -> None:
        """Serve Prometheus on this port from a thread. Raises OSError if it is taken."""
        start_http_server(port, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self.registry)
