"""What was learned about the size of prompts: bounds that always hold, sums that add up, errors that shrink."""

import statistics
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tokens.prompts import KINDS, documents
from bench.tokens.tokenizer import tokens_in
from providers.tokens.bound import prompt_bound
from providers.tokens.calibration import COVERED, MOST_MARGIN, Calibration, Prior
from providers.tokens.estimates import BY_BYTES, Estimates
from providers.tokens.features import SAMPLED_BEYOND_BYTES, Prompt, Shape, features_of, prompt_of
from schemas.estimates import Measured, Sums
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Quote

TARGET = Target(account="a", model="m")
PRIOR = Prior(weights=(0.3, 5.0), margin=1.35)
Call = tuple[float, int]


def body(content: object, **more: object) -> JsonObject:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def estimates() -> Estimates:
    return Estimates(lambda _: None)


def taught(calls: list[Call], start: Sums | None = None) -> Calibration:
    calibration = Calibration(PRIOR)
    if start is not None:
        calibration.sent(start)
    for size, tokens in calls:
        calibration.learn((size, 1.0), tokens)
    return calibration


calls = st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 10**9)), max_size=40)


@given(st.lists(st.tuples(st.text(max_size=200), st.integers(1, 10**12)), max_size=30), st.text())
@settings(max_examples=60)
def test_a_learned_estimate_is_at_least_one_token_and_within_the_bound(
    taught_by: list[tuple[str, int]], text: str
) -> None:
    learned = estimates()
    for said, tokens in taught_by:
        estimate = learned.estimate(TARGET, body(said), prompt_bound(body(said)))
        assert estimate.measured is not None
        learned.learn(estimate.measured, tokens)

    bound = prompt_bound(body(text))

    assert 1 <= learned.estimate(TARGET, body(text), bound).tokens <= bound


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.none() | st.integers(1, 10**7))
def test_permits_never_pass_the_worst_case(bound: int, output: int, likely: int | None) -> None:
    quote = Quote(input_tokens=bound, output_tokens=output, cost_nano_usd=NanoUsd(1), likely_input_tokens=likely)

    assert output < quote.permits <= bound + output


@given(calls, calls, calls)
def test_sums_may_be_put_together_in_any_grouping(one: list[Call], two: list[Call], three: list[Call]) -> None:
    kept = Calibration(PRIOR).kept
    a, b, c = (taught(each).send() for each in (one, two, three))

    left = a.followed_by(b, kept).followed_by(c, kept)
    right = a.followed_by(b.followed_by(c, kept), kept)

    assert left.calls == right.calls == len(one) + len(two) + len(three)
    assert left.values == pytest.approx(right.values)


@given(calls, calls)
def test_two_processes_together_know_nearly_what_one_would_have_learned(one: list[Call], two: list[Call]) -> None:
    kept = Calibration(PRIOR).kept
    apart = taught([]).send().followed_by(taught(one).send(), kept).followed_by(taught(two).send(), kept)
    reader = Calibration(PRIOR)
    reader.sent(apart)
    alone = taught(one + two)
    alone.sent(alone.send())

    sized = (1_000.0, 1.0)

    assert reader.likely(sized) == pytest.approx(alone.likely(sized), rel=0.05)


def test_a_lesson_that_did_not_arrive_is_sent_again_with_what_followed() -> None:
    calibration = taught([(100.0, 40)] * 3)
    calibration.send()
    calibration.not_sent()
    calibration.learn((100.0, 1.0), 40)

    assert calibration.send().calls == 4
    calibration.sent(Sums(calls=4, values=(0.0,) * len(calibration.kept)))
    assert calibration.send().calls == 0


def test_a_prior_says_something_sensible_before_the_first_call() -> None:
    for document in documents(130, seed=3):
        bound = prompt_bound(body(document.text))
        estimate = estimates().estimate(TARGET, body(document.text), bound)

        assert 0.6 <= estimate.tokens / tokens_in(document.text) <= 3.5, document.kind


@pytest.mark.parametrize("rule", [tokens_in, lambda text: -(-len(text) // 4)], ids=["pieces", "four characters"])
def test_five_hundred_calls_calibrate(rule: Callable[[str], int]) -> None:
    learned, errors, covered, total_likely, total_true = estimates(), [], [], 0.0, 0
    for number, document in enumerate(documents(1_500, seed=5)):
        asked = body(document.text)
        estimate, true = learned.estimate(TARGET, asked, prompt_bound(asked)), rule(document.text) + 7
        measured = estimate.measured
        assert measured is not None
        if number >= 500:
            likely = learned.likely(measured)
            errors.append(abs(likely - true) / true)
            covered.append(estimate.tokens >= true)
            total_likely, total_true = total_likely + likely, total_true + true
        learned.learn(measured, true)

    assert statistics.mean(errors) <= 0.12
    assert COVERED - 0.02 <= statistics.mean(covered) <= COVERED + 0.035
    assert abs(total_likely / total_true - 1) <= 0.08


def test_a_provider_that_counts_anew_is_followed() -> None:
    calibration = taught([(1_000.0, 300)] * 2_000)

    for _ in range(12_000):
        calibration.learn((1_000.0, 1.0), 600)

    assert calibration.likely((1_000.0, 1.0)) == pytest.approx(600, rel=0.1)


@given(st.text(min_size=1, max_size=60), st.integers(2_000, 4_000))
@settings(max_examples=20)
def test_a_long_text_is_sampled_and_a_uniform_one_loses_nothing(piece: str, times: int) -> None:
    text = (piece + " word ") * times
    size = len(text.encode())
    whole, long = (features_of(_prompt(body(each))) for each in (text[: len(text) // 10], text))

    if size > SAMPLED_BEYOND_BYTES:
        assert sum(long[:-3]) == pytest.approx(10 * sum(whole[:-3]), rel=0.25)


def test_pictures_are_counted_apart_from_their_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}
    plain, seen = body("What is it?"), body([{"type": "text", "text": "What is it?"}, picture])

    assert _prompt(seen).shape is Shape.MEDIA
    assert _prompt(seen).text == _prompt(plain).text
    assert _prompt(seen).media_tokens > 0


def test_tools_schemas_and_calls_of_tools_are_read() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "looks up orders"}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "an order"}}]}

    prompt = _prompt({"messages": [call], "tools": [tool]})

    assert prompt.shape is Shape.STRUCTURED
    assert b"looks up orders" in prompt.text
    assert b"an order" in prompt.text


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_messages_of_any_form_are_measured_without_complaint(anything: object) -> None:
    for messages in (anything, [anything], [{"role": "user", "content": anything}]):
        assert estimates().estimate(TARGET, {"messages": messages}, 100).tokens <= 100


def test_a_request_that_is_no_chat_is_asked_for_its_bound() -> None:
    estimate = estimates().estimate(TARGET, {"input": "x"}, 77)

    assert (estimate.tokens, estimate.measured) == (77, None)


def test_lone_surrogates_are_measured_not_feared() -> None:
    assert estimates().estimate(TARGET, body("\ud800" * 10), 1_000).tokens >= 1


def test_every_feature_has_a_prior_above_zero() -> None:
    assert len(features_of(_prompt(body("x")))) == len(BY_BYTES.weights)
    assert all(weight > 0 for weight in BY_BYTES.weights)


def test_a_busy_process_tells_others_once_per_many_calls() -> None:
    learned, told = estimates(), []
    for document in documents(400, seed=9):
        measured = learned.estimate(TARGET, body(document.text), 10**6).measured
        assert isinstance(measured, Measured)
        learned.learn(measured, tokens_in(document.text))
        for lesson in learned.lessons():
            told.append(lesson.sums.calls)
            before = Sums(calls=sum(told[:-1]), values=(0.0,) * len(lesson.sums.values))
            learned.shared({lesson.topic: Sums(calls=before.calls + lesson.sums.calls, values=lesson.sums.values)})

    assert sum(told) <= 400
    assert told[0] == 1
    assert all(later >= earlier - 1 for earlier, later in pairwise(told))


def test_the_margin_has_an_end() -> None:
    calibration = taught([(100.0, 1), (100.0, 10_000)] * 300)

    assert calibration.with_margin((100.0, 1.0)) <= MOST_MARGIN * calibration.likely((100.0, 1.0)) + 1


def test_thirteen_kinds_are_made_the_same_for_the_same_seed() -> None:
    assert list(documents(26, seed=1)) == list(documents(26, seed=1))
    assert {document.kind for document in documents(13, seed=1)} == set(KINDS)
    assert len(KINDS) == 13


def _prompt(asked: JsonObject) -> Prompt:
    prompt = prompt_of(asked)
    assert prompt is not None
    return prompt
