"""A row for each limit of a target, and everybody who waits for it counted where the call would go first."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from admission.limits import DimensionSnapshot, LimitsSnapshot, ShutBy
from schemas.errors import UnknownModel
from schemas.job import Target
from schemas.lanes import Lane
from storage.queue.waiting_counts import MOST_COUNTED, WaitingJobs
from tasks.operations.limit_report import limit_rows, waiting_by_target

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NONE = DimensionSnapshot(configured=None, learned=None, effective=None, level=None)
MINI, LARGE, FAMILY = (Target(account="acme", model=model) for model in ("mini", "large", "family"))
CHAINS = {"mini": (MINI,), "small": (MINI, LARGE), "large": (LARGE,)}
BARE = LimitsSnapshot(
    target=MINI,
    version=1,
    requests_per_minute=NONE,
    tokens_per_minute=NONE,
    requests_per_day=NONE,
    tokens_per_day=NONE,
    used_requests_last_minute=11,
    used_tokens_last_minute=12,
    in_flight=3,
    max_in_flight=None,
    ticket_ms=dict.fromkeys(Lane, 0),
    frozen_ms=0,
    stopped=None,
    rate_factor=1.0,
    refund_share=1.0,
)
CUT = DimensionSnapshot(configured=600, learned=300, effective=150, level=0.5)
DAY = DimensionSnapshot(configured=1_000, learned=None, effective=1_000, level=0.25, resets_in_ms=60_000)


def chain(model: str) -> tuple[Target, ...]:
    if model not in CHAINS:
        raise UnknownModel(model)
    return CHAINS[model]


def test_jobs_wait_for_the_first_unstopped_target_or_else_for_the_first() -> None:
    flows = {(Lane.LOW, "small"): WaitingJobs(queued=10), (Lane.LOW, "mini"): WaitingJobs(queued=1)}

    found = waiting_by_target(flows, CHAINS.__getitem__, lambda target: target, {MINI})

    assert found == {LARGE: {Lane.LOW: WaitingJobs(queued=10)}, MINI: {Lane.LOW: WaitingJobs(queued=1)}}


def by_target(
    flows: Mapping[tuple[Lane, str], WaitingJobs], families: Mapping[Target, Target] | None = None
) -> dict[Target, dict[Lane, WaitingJobs]]:
    found = waiting_by_target(flows, chain, lambda target: (families or {}).get(target, target))
    return {target: dict(lanes) for target, lanes in found.items()}


def test_a_model_and_an_alias_wait_for_the_first_target_of_their_chain() -> None:
    flows = {
        (Lane.LOW, "mini"): WaitingJobs(queued=1, parked=2),
        (Lane.LOW, "small"): WaitingJobs(queued=10, in_place=3),
        (Lane.HIGH, "small"): WaitingJobs(in_place=4),
        (Lane.LOW, "large"): WaitingJobs(parked=5),
    }

    assert by_target(flows) == {
        MINI: {Lane.LOW: WaitingJobs(queued=11, in_place=3, parked=2), Lane.HIGH: WaitingJobs(in_place=4)},
        LARGE: {Lane.LOW: WaitingJobs(parked=5)},
    }


def test_models_of_a_family_wait_for_its_one_bucket() -> None:
    flows = {(Lane.LOW, "mini"): WaitingJobs(queued=1), (Lane.LOW, "large"): WaitingJobs(queued=2)}

    assert by_target(flows, {MINI: FAMILY, LARGE: FAMILY}) == {FAMILY: {Lane.LOW: WaitingJobs(queued=3)}}


def test_a_model_that_nobody_knows_waits_for_no_target() -> None:
    assert by_target({(Lane.LOW, "gone"): WaitingJobs(queued=1)}) == {}


def test_each_limit_has_its_row_and_calls_in_flight_have_one_always() -> None:
    snapshot = replace(BARE, requests_per_minute=CUT, tokens_per_day=DAY, max_in_flight=8)

    rows = limit_rows(snapshot, {}, NOW)

    figures = [(row["limit"], row["configured"], row["learned"], row["effective"], row["used"]) for row in rows]
    assert figures == [
        ("requests_per_minute", 600, 300, 150, 11),
        ("tokens_per_day", 1_000, None, 1_000, 750),
        ("in_flight", 8, None, 8, 3),
    ]
    assert [row["resets_at"] for row in rows] == [None, NOW + timedelta(minutes=1), None]
    assert [(row["limit"], row["effective"], row["used"]) for row in limit_rows(BARE, {}, NOW)] == [
        ("in_flight", None, 3)
    ]


def test_a_freeze_and_a_stop_say_until_when_and_why() -> None:
    [frozen] = limit_rows(replace(BARE, frozen_ms=1_500, shut_by=ShutBy.SLOW_DOWN), {}, NOW)
    [stopped] = limit_rows(replace(BARE, shut_by=ShutBy.ACCOUNT_STOPPED, stopped="insufficient_quota"), {}, NOW)
    [open_] = limit_rows(BARE, {}, NOW)

    said = [(row["frozen_until"], row["frozen_seconds"], row["shut_by"], row["stopped"]) for row in (frozen, stopped)]
    assert said == [
        (NOW + timedelta(seconds=1.5), 1.5, "slow_down", None),
        (None, 0, "account_stopped", "insufficient_quota"),
    ]
    assert (open_["frozen_until"], open_["shut_by"]) == (None, None)


def test_lanes_are_in_order_of_urgency_and_a_full_count_is_marked_capped() -> None:
    waiting = {
        Lane.LOW: WaitingJobs(queued=2 * MOST_COUNTED, in_place=1),
        Lane.CRITICAL: WaitingJobs(in_place=2),
        Lane.NORMAL: WaitingJobs(),
    }

    [row] = limit_rows(BARE, waiting, NOW)

    assert list(row["waiting"].items()) == [
        ("critical", {"jobs": 2, "capped": False, "queued": 0, "in_place": 2, "parked": 0}),
        ("low", {"jobs": MOST_COUNTED, "capped": True, "queued": MOST_COUNTED, "in_place": 1, "parked": 0}),
    ]


def test_who_waits_is_unknown_and_not_nobody_while_postgres_is_away() -> None:
    assert [limit_rows(BARE, waiting, NOW)[0]["waiting"] for waiting in (None, {})] == [None, {}]
