"""What an operator sees while an account of the provider is stopped, until it is opened again."""

import json

from tests.support.limit_views import (
    SCRAPED_EVERY_SECONDS,
    counts,
    eventually,
    hand_in,
    limits_of,
    printed,
    reasons,
    samples,
)
from tests.support.stack_process import StackProcess

FAMILY, OTHERS = "openai/shared", ("openai/gpt-4.1", "openai/gpt-4.1-mini")
"""The family is used by this test alone, so that its figures are of this test."""

MODEL = "gpt-5-mini"
WOKEN_SECONDS = 20.0
"""Far less than the minute after which a job that waits for a stopped account asks again by itself."""


def test_an_account_without_money_stops_visibly_until_an_operator_opens_it(stack: StackProcess) -> None:
    made = [hand_in(stack, MODEL, "normal", f"[[scenario:money*1]] {number}") for number in range(2)]
    eventually(lambda: limits_of(stack, FAMILY)["in_flight"]["shut_by"], "account_stopped")
    made += [hand_in(stack, MODEL, "high") for _ in range(4)]
    eventually(lambda: reasons(stack, made), ["account_stopped"] * 4 + ["money"] * 2)
    eventually(lambda: counts(limits_of(stack, FAMILY)["in_flight"]), {"high": 4, "normal": 2})

    family, *others = (limits_of(stack, target)["in_flight"] for target in (FAMILY, *OTHERS))
    shown = [line.split("\t") for line in printed(stack).splitlines()]

    assert (family["stopped"], family["frozen_until"]) == ("insufficient_quota", None)
    assert {(row["shut_by"], row["stopped"]) for row in (family, *others)} == {
        ("account_stopped", "insufficient_quota")
    }
    assert {(row[8], row[9]) for row in shown[1:]} == {("account_stopped", "insufficient_quota")}
    eventually(
        lambda: samples(stack, "penstock_account_stopped"),
        {(target,): 1.0 for target in (FAMILY, *OTHERS)},
        seconds=SCRAPED_EVERY_SECONDS,
    )
    assert samples(stack, "penstock_waiting_jobs", target=FAMILY)["high",] == 4

    opened, again = (json.loads(printed(stack, "open", "openai", "--json")) for _ in range(2))

    assert (opened["was_stopped_for"], again["was_stopped_for"]) == ("insufficient_quota", None)
    assert {row["shut_by"] for row in stack.api.get("limits")["data"]} == {None}
    eventually(lambda: {stack.api.get("jobs", job)["state"] for job in made}, {"completed"}, WOKEN_SECONDS)
