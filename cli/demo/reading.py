"""Reads and formats the demo's progress, without I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from schemas.jsons import JsonObject
from schemas.money import NANO_PER_USD, ZERO, NanoUsd, nano_from_usd, read_usd

BAR_CELLS = 30


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Progress of a batch. `quota` maps a limit to its used share."""

    elapsed_seconds: float
    status: str
    total: int
    completed: int
    dead: int
    reprompted: int
    spent_nano_usd: int
    lanes: Mapping[str, int] = field(default_factory=dict)
    quota: Mapping[str, float] = field(default_factory=dict)

    @property
    def jobs_per_second(self) -> float:
        """Terminal jobs per second since submission."""
        return (self.completed + self.dead) / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


def quota_used(limits: Sequence[JsonObject]) -> dict[str, float]:
    """Return the highest used share of each limit over all targets."""
    shares: dict[str, float] = {}
    for row in limits:
        used, limit = row.get("used"), row.get("learned") or row.get("configured")
        if isinstance(used, int | float) and isinstance(limit, int | float) and limit > 0:
            name = str(row.get("limit", "quota"))
            shares[name] = max(shares.get(name, 0.0), min(used / limit, 1.0))
    return shares


def settled_nano_usd(budgets: Sequence[JsonObject]) -> int:
    """Return what the global budget has settled, else the highest."""
    settled = [nano_usd(row.get("settled_usd")) for row in budgets if row.get("scope", "global") == "global"]
    return max(settled or [nano_usd(row.get("settled_usd")) for row in budgets] or [ZERO])


def nano_usd(amount: object) -> NanoUsd:
    """Convert decimal dollars; 0 for anything else."""
    return nano_from_usd(read_usd(amount) or 0)


def line(reading: Reading) -> str:
    """Format the progress on one line."""
    parts = [
        f"{reading.elapsed_seconds:6.1f} s",
        reading.status,
        f"completed {reading.completed}/{reading.total}",
        f"reprompted {reading.reprompted}",
        f"dead {reading.dead}",
        f"spent {_usd(reading.spent_nano_usd)} USD",
        f"quota {_quota(reading)}",
        f"lanes {_lanes(reading)}",
    ]
    return "  ".join(parts)


def block(reading: Reading) -> str:
    """Format the progress for a terminal that is redrawn."""
    done = (reading.completed + reading.dead) / reading.total if reading.total else 0.0
    filled = round(done * BAR_CELLS)
    bar = "█" * filled + "░" * (BAR_CELLS - filled)
    speed = f"{reading.jobs_per_second:.0f} jobs/s"
    others = f"reprompted {reading.reprompted}   dead {reading.dead}"
    return "\n".join(
        [
            f"  {reading.status:<12} {bar} {done:4.0%}   {reading.elapsed_seconds:.1f} s   {speed}",
            f"  completed    {reading.completed} of {reading.total}   {others}",
            f"  lanes        {_lanes(reading)}",
            f"  quota used   {_quota(reading)}",
            f"  spent        {_usd(reading.spent_nano_usd)} USD",
        ]
    )


def last_line(reading: Reading) -> str:
    """Return the demo's last line, whose format is fixed."""
    counts = f"completed={reading.completed} dead={reading.dead}"
    spent_usd = Decimal(reading.spent_nano_usd) / NANO_PER_USD
    return f"demo: {counts} spent_usd={spent_usd:.6f} jobs_per_second={reading.jobs_per_second:.1f}"


def _usd(amount_nano_usd: int) -> str:
    return f"{Decimal(amount_nano_usd) / NANO_PER_USD:.4f}"


def _quota(reading: Reading) -> str:
    return " ".join(f"{name} {share:.0%}" for name, share in sorted(reading.quota.items())) or "-"


def _lanes(reading: Reading) -> str:
    return " ".join(f"{lane}={count}" for lane, count in reading.lanes.items()) or "-"
