"""Counts what the provider did and bills, independently of any client's records.

A call is billed at admission, unless a fault came before; a client that hangs up pays all the same. A bill belongs to
the client's x-client-request-id, or to our x-request-id where there is none.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens of one answer. Cached tokens are part of input_tokens."""

    input_tokens: int
    cached_input_tokens: int = 0
    output_tokens: int = 0


@dataclass(kw_only=True)
class Bill:
    """Total cost of one client request id so far."""

    client_request_id: str
    model: str
    job_id: str | None
    calls: int = 0
    nano_usd: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    usage_told: bool = True  # False: some reply carried a usage from its script

    def add(self, usage: Usage, nano_usd: int) -> None:
        """Add one billed call."""
        self.calls += 1
        self.nano_usd += nano_usd
        self.input_tokens += usage.input_tokens
        self.cached_input_tokens += usage.cached_input_tokens
        self.output_tokens += usage.output_tokens


@dataclass(kw_only=True)
class Meter:
    """Counters since the start or the last reset."""

    started_at: float  # Unix seconds, the first second of the admission series
    accepted: int = 0
    answered: int = 0
    concurrent: int = 0
    concurrent_peak: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    scenarios: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    by_model: dict[str, Counter[str]] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    bills: dict[str, Bill] = field(default_factory=dict)
    billed_jobs: Counter[str] = field(default_factory=Counter)
    billed_bodies: Counter[int] = field(default_factory=Counter)
    admissions: Counter[int] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)  # calls by the id of their script

    def begin(self) -> None:
        """Count a call as in progress."""
        self.totals["hits"] += 1
        self.concurrent += 1
        self.concurrent_peak = max(self.concurrent_peak, self.concurrent)

    def end(self) -> None:
        """Count it as ended, whatever its result."""
        self.concurrent -= 1

    def accept(self, now: float) -> None:
        """Count an admission in its second."""
        self.accepted += 1
        self.admissions[int(now - self.started_at)] += 1

    def charge(
        self,
        usage: Usage,
        nano_usd: int,
        *,
        model: str,
        client_request_id: str,
        job_id: str | None,
        body: int | None,
        usage_told: bool = True,
    ) -> None:
        """Bill one call."""
        bill = self.bills.get(client_request_id)
        if bill is None:
            bill = self.bills[client_request_id] = Bill(client_request_id=client_request_id, model=model, job_id=job_id)
        bill.add(usage, nano_usd)
        bill.usage_told = bill.usage_told and usage_told
        if job_id is not None:
            self.billed_jobs[job_id] += 1
        if body is not None:
            self.billed_bodies[body] += 1
        for counter in (self.totals, self.by_model.setdefault(model, Counter())):
            counter["billed"] += 1
            counter["nano_usd"] += nano_usd
            counter["input_tokens"] += usage.input_tokens
            counter["cached_input_tokens"] += usage.cached_input_tokens
            counter["output_tokens"] += usage.output_tokens

    def report(self) -> dict[str, object]:
        """Return everything but single bills and hits, ready for JSON."""
        return {
            "started_at": self.started_at,
            "hits": self.totals["hits"],
            "accepted": self.accepted,
            "answered": self.answered,
            "refused": dict(self.refused),
            "refused_total": self.refused.total(),
            "scenarios": dict(self.scenarios),
            "billed": self.totals["billed"],
            "bill_nano_usd": self.totals["nano_usd"],
            "input_tokens": self.totals["input_tokens"],
            "cached_input_tokens": self.totals["cached_input_tokens"],
            "output_tokens": self.totals["output_tokens"],
            "by_model": {model: dict(counter) for model, counter in self.by_model.items()},
            "billed_twice": {
                "client_request_ids": sum(bill.calls > 1 for bill in self.bills.values()),
                "job_ids": _more_than_once(self.billed_jobs),
                "bodies": _more_than_once(self.billed_bodies),
            },
            "hits_per_client_request_id": {str(hits): ids for hits, ids in sorted(Counter(self.hits.values()).items())},
            "concurrent": self.concurrent,
            "concurrent_peak": self.concurrent_peak,
            "admissions_per_second": self._series(),
        }

    def bill_list(self, client_request_id: str | None = None) -> dict[str, object]:
        """Return all bills, or the requested one."""
        if client_request_id is None:
            chosen = list(self.bills.values())
        else:
            chosen = [bill for bill in [self.bills.get(client_request_id)] if bill is not None]
        return {"object": "list", "data": [asdict(bill) for bill in chosen]}

    def _series(self) -> list[int]:
        last = max(self.admissions, default=-1)
        return [self.admissions[second] for second in range(last + 1)]


def _more_than_once(counter: Counter[str] | Counter[int]) -> int:
    return sum(times > 1 for times in counter.values())
