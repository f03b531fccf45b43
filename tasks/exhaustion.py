"""What follows when a budget has no room for a job: which of its steps can be taken. Pure.

A job that names a model, and not an alias, has a chain of one: it pins its model, and no cheaper one is ever taken.
"""

from collections.abc import Sequence

from schemas.admission import Refusal, Step
from schemas.money import NanoUsd


def first_step(refusal: Refusal, *, answer_missing: bool) -> Step:
    """The first step that can be taken; who has none left waits."""
    steps = refusal.counter.on_exhausted if refusal.counter is not None else ()
    for step in steps:
        if step is Step.CHEAPER and refusal.cheaper_in == 0:
            continue
        if step is Step.CACHED and answer_missing:
            continue
        return step
    return Step.PARK


def cheaper_in(asked_nano_usd: NanoUsd, further: Sequence[NanoUsd | None]) -> int:
    """How many targets further the first cheaper one stands, by the quotes of those to come; 0: there is none."""
    quotes = enumerate(further, 1)
    return next((number for number, cost in quotes if cost is not None and cost < asked_nano_usd), 0)
