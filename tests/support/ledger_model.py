"""The ledger once more in plain Python: what each store should hold after each step, in sixty lines."""

from dataclasses import dataclass, field


@dataclass
class Reserved:
    """One attempt: what was reserved, what it cost, and where it is known."""

    reserved: int
    state: str = "granted"
    cost: int = 0
    stamped: bool = True
    suspended: bool = False


@dataclass
class LedgerModel:
    """Counters with one set of attempts in all of them; `limits` by counter."""

    limits: tuple[int, ...]
    attempts: list[Reserved] = field(default_factory=list)

    @property
    def settled(self) -> int:
        return sum(one.cost for one in self.attempts if one.state == "posted" and not one.stamped)

    @property
    def reserved(self) -> int:
        return sum(one.reserved for one in self.attempts if one.stamped)

    @property
    def booked(self) -> int:
        return sum(one.cost for one in self.attempts if one.state == "posted")

    def admits(self, cost: int) -> bool:
        return all(self.settled + self.reserved + cost <= limit for limit in self.limits)

    def finish(self, one: Reserved, end: str, cost: int, *, heard: bool) -> None:
        one.state, one.cost = end, cost if end == "posted" else 0
        if heard:
            one.suspended, one.stamped = end == "suspense", end == "suspense"

    def expire(self) -> None:
        for one in self.attempts:
            one.suspended = one.stamped

    def reconcile(self) -> None:
        """What Postgres knows the end of, or has never heard of, is settled; what is open or unknown stays."""
        for one in self.attempts:
            if one.suspended and one.state in {"posted", "released", "granted"}:
                one.stamped = one.suspended = False

    def presume(self) -> None:
        for one in self.attempts:
            if one.state == "suspense":
                one.state, one.cost, one.stamped, one.suspended = "posted", one.reserved, False, False

    def rebuild(self) -> None:
        """Postgres alone remains: what it holds open keeps its stamp, what it never heard of is gone."""
        for one in self.attempts:
            one.stamped = one.state in {"opened", "suspense"}
            one.suspended = one.state == "suspense"
