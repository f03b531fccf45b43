"""The share of one tenant once more, in plain Python, from its specification: read it beside `tenant.lua`."""

from dataclasses import dataclass, field

from admission.state import CRITICAL_SLOTS, DEFAULT_FLOORS
from admission.tenants import BURST_US
from schemas.admission import Ask, SettleKind, Settlement
from tests.support.admission_fixture import SECOND_US

MINUTE = 60 * SECOND_US
REASONS = ("tenant_requests", "tenant_tokens", "tenant_in_flight")
MOMENTS = ("last_at", "settled_at", "tat", "ticket")


@dataclass
class TenantModel:
    """State as `admission.tenants` names it; None before the first ask that was not refused."""

    state: dict[str, list[float]] | None = None
    in_flight: dict[str, float] = field(default_factory=dict)

    def opened(self, clock_us: int) -> tuple[dict[str, list[float]], float]:
        now = float(clock_us)
        if self.state is None:
            zeros = {"tat": [0.0] * 2, "interval": [0.0] * 2, "ticket": [0.0] * 4}
            return zeros | {"calls": [0.0], "last_at": [now], "settled_at": [now], "pace": [50_000.0]}, now
        t = {name: list(values) for name, values in self.state.items()}
        step = now - t["last_at"][0]
        if step <= -SECOND_US:
            for name in MOMENTS:
                t[name] = [moment + step for moment in t[name]]
        elif step < 0:
            now = t["last_at"][0]
        t["last_at"] = [now]
        return t, now

    def wait(self, ask: Ask, clock_us: int, bucket_now: float, floor: float) -> tuple[float, str] | None:
        """How long the share wants the ask to wait, and why; draws a ticket then. None where it may go on."""
        assert ask.share is not None
        t, now = self.opened(clock_us)
        self.limit(t, ask)
        lane = ask.lane.rank
        own_floor = floor
        if lane > 0 and not ask.has_share_ticket and t["ticket"][lane] > now:
            own_floor = max(floor, 0.5)
        costs = self.costs(ask)
        wait, why = 0.0, None
        for d, cost in enumerate(costs):
            if cost:
                room = BURST_US * (0.5 if ask.has_share_ticket else 1 - DEFAULT_FLOORS[3])
                need = min(BURST_US, min(cost, room) + own_floor * BURST_US)
                lacks = t["tat"][d] - now - BURST_US + need
                if lacks > wait:
                    wait, why = lacks, d
        if calls := ask.share.calls_in_flight:
            slots = calls - (int(calls * CRITICAL_SLOTS) if lane else 0)
            live = sum(expires > bucket_now for expires in self.in_flight.values())
            if live >= slots and wait <= t["pace"][0]:
                wait, why = t["pace"][0], 2
        if why is None:
            return None
        slot = max(now + wait, t["ticket"][lane])
        t["ticket"][lane] = slot + (t["pace"][0] if why == 2 else costs[why])
        self.state = t
        return slot - now, REASONS[why]

    def limit(self, t: dict[str, list[float]], ask: Ask) -> None:
        assert ask.share is not None
        limits = {"interval": self.intervals(ask), "calls": [float(ask.share.calls_in_flight or 0)]}
        if any(t[name] != values for name, values in limits.items()):
            t["ticket"] = [0.0] * 4
        t.update(limits)

    def intervals(self, ask: Ask) -> list[float]:
        assert ask.share is not None
        limits = (ask.share.requests_per_minute, ask.share.tokens_per_minute)
        return [MINUTE / limit if limit else 0.0 for limit in limits]

    def costs(self, ask: Ask) -> list[float]:
        requests, tokens = self.intervals(ask)
        return [requests, ask.tokens * tokens]

    def granted(self, ask: Ask, stamp: str, clock_us: int, bucket_now: float, expires: float) -> None:
        t, now = self.opened(clock_us)
        self.limit(t, ask)
        for d, cost in enumerate(self.costs(ask)):
            if cost:
                t["tat"][d] = max(t["tat"][d], now) + cost
        self.state = t
        self.in_flight = {name: at for name, at in self.in_flight.items() if at > bucket_now} | {stamp: expires}

    def settled(self, done: Settlement, reserved: int, clock_us: int) -> None:
        """A live reservation ends; one that lay in suspense only leaves the calls in flight."""
        if self.state is None:
            return
        t, now = self.opened(clock_us)
        beyond = done.actual_tokens - reserved if done.kind is SettleKind.POST else -reserved
        if beyond > 0 or done.refund_permits:
            t["tat"][1] += beyond * t["interval"][1]
            if done.kind is SettleKind.RELEASE:
                t["tat"][0] -= t["interval"][0]
        t["pace"][0] += 0.1 * (min(now - t["settled_at"][0], SECOND_US) - t["pace"][0])
        t["settled_at"] = [now]
        self.state = t
