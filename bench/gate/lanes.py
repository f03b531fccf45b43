"""Cases of lanes under contention, beside a gate without lanes."""

from bench.gate.drivers import Load
from bench.gate.stage import PROCESSES, Case

CROWD = Load(lane="low", waiters=2_048 // PROCESSES)
CRITICAL = Load(lane="critical", per_second=30)
HIGH = Load(lane="high", waiters=32)
LOW = Load(lane="low", waiters=16)
RATE = 12_000

CASES = (
    Case(
        name="2,048 low waiters and 30 critical a second",
        requests_per_minute=RATE,
        loads=(CROWD, CRITICAL),
        promise="critical",
    ),
    Case(
        name="high saturates, low has 5 %",
        requests_per_minute=RATE,
        loads=(HIGH, LOW),
        shares=(0.0, 0.5, 0.25, 0.05),
        promise="share 0.05",
    ),
    Case(
        name="high saturates, low has 15 %",
        requests_per_minute=RATE,
        loads=(HIGH, LOW),
        shares=(0.0, 0.5, 0.25, 0.15),
        promise="share 0.15",
    ),
    Case(name="naive: no lanes", requests_per_minute=RATE, loads=(CROWD, CRITICAL), gate="no_lanes"),
    Case(name="naive: fixed window", requests_per_minute=RATE, loads=(CROWD, CRITICAL), gate="fixed_window"),
)
