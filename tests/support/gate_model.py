"""The admission scripts once more, in plain Python, from their specification: same questions, same answers.

Works on the same named fields as `admission.state`, so that a test can compare every one of them after each step.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil, floor, inf

from admission.gate import ORIGIN
from admission.learning import Reading, read_penalty, read_requests, read_tokens
from admission.limits import TargetLimits
from admission.stamps import stamp_name, tenant_of
from admission.state import CRITICAL_SLOTS, DEFAULT_FLOORS, DEFAULT_SHARES, FIELDS, MOMENTS, SHARE_MEMORY_US
from schemas.admission import Ask, BudgetCounter, Penalty, SettleKind, Settlement, WaitReason
from tests.support.admission_fixture import SECOND_US
from tests.support.tenant_model import TenantModel

MINUTE, DAY = 60 * SECOND_US, 86_400 * SECOND_US
PERIOD = (MINUTE, MINUTE, DAY, DAY)
REASONS = tuple(WaitReason)
FROZEN, IN_FLIGHT = 5, 4
State = dict[str, list[float]]
Answer = tuple[str, int, str]


def _fresh(now: float) -> State:
    s = {name: [0.0] * width for name, width in FIELDS.items()}
    for name in ("born_at", "last_at", "factor_at", "ramp_at", "last_settled_at", "minute_at"):
        s[name] = [now]
    s |= {"pace": [50_000.0], "burst": [1e6], "rate_factor": [1.0], "ramp_factor": [1.0]}
    s |= {"refund_fixed": [-1.0]}
    return s | {"floor": list(DEFAULT_FLOORS), "share": list(DEFAULT_SHARES)}


@dataclass
class GateModel:
    """One target, one tenant with a share, any number of counters. `now_us` is the server's clock."""

    now_us: int
    lifetime_us: int
    state: State | None = None
    frozen_by: str | None = None
    in_flight: dict[str, float] = field(default_factory=dict)
    suspense: set[str] = field(default_factory=set)
    money: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    events: list[tuple[str, str, int]] = field(default_factory=list)
    tenant: TenantModel = field(default_factory=TenantModel)

    def _open(self) -> tuple[State, float]:
        """A copy, and the clock as this bucket sees it: small steps back are waited out, large ones move it along."""
        if self.state is None:
            return _fresh(self.now_us), self.now_us
        s, step = deepcopy(self.state), self.now_us - self.state["last_at"][0]
        if step <= -SECOND_US:
            for name in MOMENTS:
                stays = 2 if name == "tat" and s["day_ends"][0] else 4
                s[name] = [moment + step if n < stays else moment for n, moment in enumerate(s[name])]
        now = s["last_at"][0] if -SECOND_US < step < 0 else float(self.now_us)
        s["last_at"] = [now]
        while 0 < s["day_ends"][0] <= now:
            s["day_ends"] = [s["day_ends"][1], s["day_ends"][1] + DAY]
            s["tat"][2:] = [s["day_ends"][0] - DAY] * 2
        return s, now

    def admit(self, ask: Ask) -> Answer:  # noqa: C901, PLR0912, PLR0915 - one decision, read beside admit.lua
        s, now = self._open()
        lane = ask.lane.rank
        spans = [_interval(s, d) for d in range(4)]
        if ask.tokens * spans[1] > MINUTE + 0.5 or ask.tokens * spans[3] > DAY + 0.5:
            return ("refusal", 0, "too_large")
        if ask.share is not None and ask.tokens > (ask.share.tokens_per_minute or inf):
            return ("refusal", 0, "tenant_too_large")
        for number, counter in enumerate(ask.counters):
            purse = self.money.get((counter.scope, counter.window), {})
            limit = purse.get("l", counter.limit_nano_usd)
            if purse.get("s", 0) + purse.get("r", 0) + ask.cost_nano_usd > limit:
                return ("refusal", number, "budget")
        opens = [at for each in ask.counters if (at := self._opens_at(each, ask)) > now]
        if opens:
            return ("refusal", round(max(opens) - now), "pace")
        costs = [(ask.tokens if d % 2 else 1) * _paced(s, d, now) for d in range(4)]
        dominant, burst = max(costs[:2]), s["burst"][0]
        floor_of = s["floor"]
        kept = floor_of[lane]
        if lane == 2 and ask.waited_ms > 30_000:
            kept = floor_of[1]
        if lane == 3 and ask.waited_ms > 60_000:
            kept = floor_of[2]
        if ask.share is not None and (held_back := self.tenant.wait(ask, self.now_us, now, kept)) is not None:
            return ("wait", ceil(max(0, held_back[0])), held_back[1])
        horizon = min(ask.horizon_ms * 1_000, kept * burst / 2)
        if lane > 0 and not ask.has_ticket and s["ticket"][lane] > now:
            kept = max(kept, 0.5)
        held = s["held_until"][0] > now and lane + 1 >= s["held_lane"][0] and ask.tokens < s["held_tokens"][0]
        hold = s["held_tokens"][0] * _paced(s, 1, now) if held else 0.0

        wait, bare, why = 0.0, 0.0, -1
        for d in (d for d in range(4) if costs[d] > 0):
            ends = _day_end(s, d)
            size = burst if d < 2 else DAY
            behind = s["tat"][d] - (ends or now + size)
            need = min(costs[d], size * (1 - floor_of[3]) if d < 2 else size)
            if ends and behind + need > 0:
                behind, need = ends - now, 0
            bare = max(bare, behind + need)
            if d < 2:
                need = min(need + kept * burst, burst) + (hold if d == 1 else 0)
            if behind + need > wait:
                wait, why = behind + need, d
        frozen = s["frozen_until"][0] - now
        if frozen > wait:
            wait, why = frozen, FROZEN
        bare = max(bare, frozen)

        ok, by_share, retry = wait <= horizon, False, wait
        if not ok and lane > 0 and s["share"][lane] > 0:
            ahead = s["share_tat"][lane] - now
            if ahead <= 0 and bare <= 0:
                ok, by_share, wait = True, True, 0.0
            else:
                retry = min(retry, max(ahead, bare))
        if most := s["max_in_flight"][0]:
            slots = most - (floor(most * CRITICAL_SLOTS) if lane > 0 else 0)
            if len(self.in_flight) >= slots:
                ok = False
                if retry <= s["pace"][0]:
                    retry, why = s["pace"][0], IN_FLIGHT
        if not ok:
            spacing = costs[why] if why < 4 else s["pace"][0] if why == IN_FLIGHT else dominant
            slot = now + retry
            takes_hold = s["held_until"][0] <= now or lane + 1 < s["held_lane"][0]
            if ask.has_ticket and why == 1 and dominant > 0.1 * burst and takes_hold:
                s |= {"held_until": [slot + 300_000], "held_tokens": [ask.tokens], "held_lane": [lane + 1]}
            else:
                slot = max(slot, s["ticket"][lane])
            s["ticket"][lane] = max(s["ticket"][lane], slot + spacing)
            self.state = s
            return ("wait", ceil(max(0, slot - now)), REASONS[why].value)

        for counter in ask.counters:
            purse = self.money.setdefault((counter.scope, counter.window), {})
            purse["r"] = purse.get("r", 0) + ask.cost_nano_usd
        for d in (d for d in range(4) if costs[d] > 0):
            s["tat"][d] = max(s["tat"][d], 0 if _day_end(s, d) else now) + costs[d]
        for other in (1, 2, 3) if lane == 0 else ():
            if s["ticket"][other] > now:
                s["ticket"][other] += dominant
        if by_share:
            s["share_tat"][lane] = max(s["share_tat"][lane], now - SHARE_MEMORY_US) + dominant / s["share"][lane]
        if s["held_until"][0] > now and ask.tokens >= s["held_tokens"][0]:
            s["held_until"] = [0.0]
        s["admitted_requests"][0] += 1
        s["admitted_tokens"][0] += ask.tokens
        _count_minute(s, now, ask.tokens)
        self.state = s
        numbers = (now + wait, s["admitted_requests"][0], s["admitted_tokens"][0], s["refunded_tokens"][0])
        stamp = "|".join([stamp_name(ask), str(ask.tokens), str(ask.cost_nano_usd), *(f"{n:.0f}" for n in numbers)])
        self.in_flight[stamp] = now + self.lifetime_us
        if ask.share is not None:
            self.tenant.granted(ask, stamp, self.now_us, now, self.in_flight[stamp])
        return ("grant", ceil(wait), stamp)

    def _opens_at(self, counter: BudgetCounter, ask: Ask) -> float:
        """When the pace of a counter has room for what is asked; 0 where it has none."""
        purse, pace = self.money.get((counter.scope, counter.window), {}), counter.pace
        limit = purse.get("l", counter.limit_nano_usd)
        if pace is None or not limit:
            return 0.0
        starts, ends = (
            round((moment - ORIGIN) / timedelta(microseconds=1)) for moment in (pace.starts_at, pace.ends_at)
        )
        wanted = purse.get("s", 0) + purse.get("r", 0) + ask.cost_nano_usd
        return starts + (wanted / limit - pace.ahead) * (ends - starts)

    def settle(self, done: Settlement) -> bool:  # noqa: C901, PLR0912 - the same, beside settle.lua
        stamp = done.grant.stamp
        tokens, cost, t_k, requests_k, tokens_k, refunded_k = map(int, stamp.rsplit("|", 6)[1:])
        live = stamp in self.in_flight
        if not live and (done.kind is SettleKind.SUSPEND or stamp not in self.suspense):
            return False
        self.in_flight.pop(stamp, None)
        self.tenant.in_flight.pop(stamp, None)
        self.suspense.discard(stamp)
        if done.kind is SettleKind.SUSPEND:
            self.suspense.add(stamp)
            return True
        for counter in done.grant.counters:
            self._pay(counter, cost, done.actual_nano_usd if done.kind is SettleKind.POST else 0)
        if not live:
            return True
        if tenant_of(done.grant) is not None:
            self.tenant.settled(done, tokens, self.now_us)
        s, now = self._open()
        if done.kind is SettleKind.RELEASE and done.refund_permits:
            for d in range(4):
                _correct(s, d, -(tokens if d % 2 else 1) * _interval(s, d))
            s["admitted_requests"] = [max(0.0, s["admitted_requests"][0] - 1)]
            s["admitted_tokens"] = [max(0.0, s["admitted_tokens"][0] - tokens)]
        elif done.kind is SettleKind.POST:
            beyond = done.actual_tokens - tokens
            part = 1.0 if beyond >= 0 else _refunded(s) if done.refund_permits else 0.0
            if beyond < 0 and done.refund_permits:
                s["refunded_tokens"][0] -= beyond
            for d in (1, 3):
                _correct(s, d, beyond * part * _interval(s, d))
        s["pace"][0] += 0.1 * (min(now - s["last_settled_at"][0], SECOND_US) - s["pace"][0])
        s["last_settled_at"] = [now]
        requests, spent = read_requests(done.headers), read_tokens(done.headers)
        for reading in (requests, spent):
            _vote(s, reading)
        if s["born_at"][0] <= t_k <= now and requests_k <= s["admitted_requests"][0] + 1:
            _lower(s, now, requests, t_k, s["admitted_requests"][0] - requests_k)
            if spent.remaining is not None:
                if spent.dimension == 2 and spent.limit is not None and _interval(s, 1) > 0:
                    _learn_refund(s, now, spent, tokens, (t_k, tokens_k, refunded_k))
                given = _refunded(s) * (s["refunded_tokens"][0] - refunded_k)
                _lower(s, now, spent, t_k, s["admitted_tokens"][0] - tokens_k - given)
        self.state = s
        return True

    def _pay(self, counter: BudgetCounter, reserved: int, spent: int) -> None:
        purse = self.money[counter.scope, counter.window]
        purse["r"] = purse.get("r", 0) - reserved
        purse["s"] = purse.get("s", 0) + spent
        limit = purse.get("l", counter.limit_nano_usd)
        for percent in (50, 80, 100):
            bit = f"{percent}"
            if spent and bit not in purse and purse["s"] * 100 >= limit * percent:
                purse[bit] = 1
                self.events.append((counter.scope, counter.window, percent))

    def penalize(self, penalty: Penalty) -> None:
        s, now = self._open()
        lesson, first = read_penalty(penalty), s["frozen_until"][0] <= now
        until = now + penalty.wait_ms * 1_000
        if until > s["frozen_until"][0]:
            s["frozen_until"], self.frozen_by = [until], "slow_down" if penalty.ramp else "retry_after"
        if penalty.ramp:
            if s["ramp_factor"][0] >= 1 or now - s["ramp_at"][0] >= 10 * SECOND_US:
                s["ramp_factor"], s["ramp_at"] = [max(1 / 16, 0.5 * _ramp(s, now))], [now]
        elif lesson.interval_us is not None:
            s["learned"][lesson.dimension - 1] = lesson.interval_us
        elif first and not s["learned"][0] and not s["learned"][1]:
            s["rate_factor"], s["factor_at"] = [max(0.5, 0.9 * _factor(s, now))], [now]
        for minute in (d for d in (0, 1) if lesson.dimension != 2 - d):
            s["tat"][minute] = max(s["tat"][minute], s["frozen_until"][0] + s["burst"][0])
        self.state = s

    def configure(self, limits: TargetLimits, version: int) -> bool:
        s, now = self._open()
        known = self.state is not None
        if known and s["version"][0] > version:
            return False
        wanted = (
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.requests_per_day,
            limits.tokens_per_day,
        )
        same = known and s["version"][0] == version
        if not same:
            s["ticket"] = [0.0] * 4
        s["version"], s["burst"] = [float(version)], [limits.burst_ms * 1_000.0]
        s["max_in_flight"] = [float(limits.max_in_flight or 0)]
        s["refund_fixed"] = [-1.0 if limits.refund_share is None else limits.refund_share]
        for d, limit in enumerate(wanted):
            if d < 2 and limit and not _interval(s, d):
                s["tat"][d] = now + s["burst"][0]
            s["configured"][d] = PERIOD[d] / limit if limit else 0.0
        s["floor"], s["share"] = list(limits.floors), list(limits.shares)
        self._set_day(s, limits, now, reapplied=same)
        self.state = s
        return True

    def _set_day(self, s: State, limits: TargetLimits, now: float, *, reapplied: bool) -> None:
        ends, was = [0.0, 0.0], s["day_ends"][0]
        if limits.day_resets is not None:
            clock = limits.day_resets.ends_after(ORIGIN + timedelta(microseconds=self.now_us))
            ends = [float(round((end - ORIGIN) / timedelta(microseconds=1))) for end in clock]
        if reapplied and was and ends[0] > was:
            s["day_ends"][1] = ends[0]
            return
        for d in (2, 3):
            spent = max(0.0, s["tat"][d] - (was - DAY if was else now))
            s["tat"][d] = (ends[0] - DAY if ends[0] else now) + spent
        s["day_ends"] = ends

    def expire(self) -> list[str]:
        moved = sorted((at, stamp) for stamp, at in self.in_flight.items() if at <= self.now_us)
        for _, stamp in moved:
            del self.in_flight[stamp]
            self.suspense.add(stamp)
        return [stamp for _, stamp in moved]


def _interval(s: State, d: int) -> float:
    return max(s["configured"][d], s["learned"][d])


def _day_end(s: State, d: int) -> float:
    return s["day_ends"][0] if d >= 2 else 0.0


def _correct(s: State, d: int, cost: float) -> None:
    s["tat"][d] = max(s["tat"][d] + cost, _day_end(s, d) - DAY if _day_end(s, d) else -inf)


def _ramp(s: State, now: float) -> float:
    factor, steps = s["ramp_factor"][0], (now - s["ramp_at"][0]) / (15 * MINUTE)
    return 1.0 if factor >= 1 or steps > 100 else min(1.0, factor * 1.5**steps)


def _factor(s: State, now: float) -> float:
    return min(1.0, s["rate_factor"][0] + (now - s["factor_at"][0]) / (10 * SECOND_US) * 0.01)


def _paced(s: State, d: int, now: float) -> float:
    if d >= 2:
        return _interval(s, d)
    return _interval(s, d) / (1 if s["learned"][d] else _factor(s, now)) / _ramp(s, now)


def _refunded(s: State) -> float:
    return s["refund_fixed"][0] if s["refund_fixed"][0] >= 0 else s["refund_share"][0]


def _count_minute(s: State, now: float, tokens: int) -> None:
    minutes = floor((now - s["minute_at"][0]) / MINUTE)
    for what in ("requests", "tokens"):
        if minutes >= 1:
            s[f"before_{what}"] = list(s[f"minute_{what}"]) if minutes == 1 else [0.0]
            s[f"minute_{what}"] = [0.0]
        s[f"minute_{what}"][0] += tokens if what == "tokens" else 1
    if minutes >= 1:
        s["minute_at"][0] += minutes * MINUTE


def _vote(s: State, reading: Reading) -> None:
    if reading.limit is None:
        return
    d = reading.dimension - 1
    s["votes"][d] = s["votes"][d] + 1 if reading.limit == s["vote"][d] else 1
    s["vote"][d] = reading.limit
    if s["votes"][d] >= 3:
        s["learned"][d] = PERIOD[d] / reading.limit


def _lower(s: State, now: float, reading: Reading, t_k: int, since: float) -> None:
    d = reading.dimension - 1
    span = _interval(s, d)
    if reading.remaining is None or span == 0:
        return
    size = s["burst"][0] if d < 2 else DAY
    ends = _day_end(s, d)
    level = max(-size, reading.remaining * span + (0 if ends else now - t_k) - max(0.0, since) * span)
    if level < size:
        s["tat"][d] = max(s["tat"][d], (ends or now + size) - level)


def _learn_refund(s: State, now: float, reading: Reading, reserved: int, stamped: tuple[int, int, int]) -> None:
    remaining, limit = reading.remaining or 0, reading.limit or 0
    t_k, tokens_k, refunded_k = stamped
    since, given = s["sample_at"][0], refunded_k - s["sample_refunded"][0]
    if since > 0 and t_k <= since:
        return
    if since > 0 and t_k - since <= MINUTE:
        if given * _interval(s, 1) < 2 * SECOND_US:
            return
        refilled = (t_k - since) / _interval(s, 1)
        seen = remaining - s["sample_remaining"][0] - refilled + (tokens_k - s["sample_admitted"][0])
        if limit - remaining > 2 * reserved:
            s["refund_share"][0] += 0.5 * (max(0.0, min(1.0, seen / given)) - s["refund_share"][0])
        elif s["tat"][1] - now > s["burst"][0] / 2:
            s["refund_share"][0] = min(1.0, s["refund_share"][0] + 0.1)
    s["sample_at"] = [float(t_k)]
    s["sample_remaining"], s["sample_admitted"] = [float(remaining)], [float(tokens_k)]
    s["sample_refunded"] = [float(refunded_k)]
