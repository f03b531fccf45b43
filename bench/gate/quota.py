"""Cases of quota use and refusals with sixteen processes, beside naive limiters."""

from bench.gate.drivers import Load
from bench.gate.stage import Case

FEW = (Load(lane="normal", waiters=16),)
MIXED = (Load(lane="normal", waiters=16, tokens=(500,) * 9 + (20_500,)),)

CASES = (
    Case(name="requests bind", requests_per_minute=12_000, tokens_per_minute=60_000_000, loads=FEW, promise="tight"),
    Case(name="tokens bind", requests_per_minute=60_000, tokens_per_minute=12_000_000, loads=FEW, promise="tight"),
    Case(
        name="tokens bind, 10 % large jobs",
        requests_per_minute=60_000,
        tokens_per_minute=12_000_000,
        loads=MIXED,
        promise="tight",
    ),
    Case(
        name="calls of 4 s",
        requests_per_minute=12_000,
        latency="uniform:3500-4500",
        loads=FEW,
        warm_up_seconds=6,
        promise="tight",
    ),
    Case(
        name="calls of 4 s, limit told 2x too high",
        requests_per_minute=12_000,
        latency="uniform:3500-4500",
        told=2.0,
        loads=FEW,
        warm_up_seconds=0,
        promise="loose",
    ),
    Case(name="naive: a bucket per process", requests_per_minute=3_000, loads=FEW, gate="own_bucket"),
    Case(name="naive: fixed window", requests_per_minute=12_000, loads=FEW, gate="fixed_window"),
    Case(
        name="naive: fixed window, 4 s, limit told 2x too high",
        requests_per_minute=12_000,
        latency="uniform:3500-4500",
        told=2.0,
        loads=FEW,
        warm_up_seconds=0,
        gate="fixed_window",
    ),
)
