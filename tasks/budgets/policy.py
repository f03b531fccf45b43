"""Decides what follows when a budget cannot cover a job. Pure.

A job that names a model instead of an alias never changes to a cheaper model.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from schemas.admission import RULE_SCOPE, Pace, Refusal, RefusalReason, Step
from schemas.decision import AskAgain, DeadLetter, DeadReason, Park
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, usd_text

RULE_WAITS = "rule"

TURN_SPREAD_SECONDS = 60.0
"""Time over which jobs wake after the next window begins."""

BUDGET_CHECK_SECONDS = 300.0
"""Wait for a budget without a known end of its window."""

PACE_SPREAD_PART = 0.01
"""Part of the window over which paced jobs wake: each knows only its own cost, so all compute the same moment."""

LONGEST_PACE_SPREAD_SECONDS = 900.0
"""Limits that spread: a hundredth of a month is too long."""


def about_exhausted(
    refusal: Refusal, body: JsonObject, *, now: datetime, jitter: float
) -> AskAgain | DeadLetter | Park:
    """Decide by the first possible step, after the cache had no answer."""
    counter = refusal.counter
    scope = refusal.scope if counter is None else f"{counter.scope} of {counter.window}"
    how = "ahead of its pace" if refusal.reason is RefusalReason.PACE else "spent"
    step = first_step(refusal, answer_missing=True)
    if step is Step.CHEAPER:
        note = f"{scope} {how}: a cheaper model"
        return AskAgain(body=body, reason="cheaper", next_target=True, skips=refusal.cheaper_in - 1, note=note)
    if step is Step.REJECT:
        message = f"The budget {scope} is {how}."
        return DeadLetter(reason=DeadReason.BUDGET, message=message, note=f"{scope} {how}: rejected")
    if counter is not None and counter.scope.startswith(RULE_SCOPE):
        note = f"{scope} {how}: parked until the rule has room or ends"
        return Park(until_at=_wakes_at(refusal, now, jitter), reason=RULE_WAITS, note=note)
    if counter is not None and refusal.asked_nano_usd > counter.limit_nano_usd:
        cost, limit = usd_text(refusal.asked_nano_usd), usd_text(counter.limit_nano_usd)
        message = f"This request may cost {cost} USD, more than the whole budget {scope} of {limit} USD."
        return DeadLetter(reason=DeadReason.BUDGET, message=message, note=f"{scope} too small: rejected")
    until = "it has room" if refusal.reason is RefusalReason.PACE else "it turns"
    note = f"{scope} {how}: parked until {until}"
    return Park(until_at=_wakes_at(refusal, now, jitter), reason=refusal.reason.value, note=note)


def first_step(refusal: Refusal, *, answer_missing: bool) -> Step:
    """Return the first possible step; PARK where none is left."""
    steps = refusal.counter.on_exhausted if refusal.counter is not None else ()
    for step in steps:
        if step is Step.CHEAPER and refusal.cheaper_in == 0:
            continue
        if step is Step.CACHED and answer_missing:
            continue
        return step
    return Step.PARK


def cheaper_in(asked_nano_usd: NanoUsd, further: Sequence[NanoUsd | None]) -> int:
    """Return how many targets further the first cheaper one is; 0 for none."""
    quotes = enumerate(further, 1)
    return next((number for number, cost in quotes if cost is not None and cost < asked_nano_usd), 0)


def _wakes_at(refusal: Refusal, now: datetime, jitter: float) -> datetime:
    counter = refusal.counter
    if counter is None or counter.ends_at is None:
        return now + timedelta(seconds=BUDGET_CHECK_SECONDS * (1 + jitter))
    if refusal.reason is RefusalReason.PACE and counter.pace is not None:
        return now + timedelta(milliseconds=refusal.opens_in_ms) + _spread(counter.pace) * jitter
    return counter.ends_at + timedelta(seconds=TURN_SPREAD_SECONDS) * jitter


def _spread(pace: Pace) -> timedelta:
    longest = timedelta(seconds=LONGEST_PACE_SPREAD_SECONDS)
    return min((pace.ends_at - pace.starts_at) * PACE_SPREAD_PART, longest)
