"""Why it ended and whether it refused come before what it says; what was wrong becomes the complaint."""

from typing import Any

import pytest

from providers.chat.reply import is_completion, reply_of, usage_of
from providers.contract.evaluate import NO_CONTENT, NO_JSON, judge
from providers.contract.validation import CompiledSchema
from providers.contract.work import Work
from schemas.money import Usage
from schemas.outcome import Declined, Invalid, Judged, Truncated, Valid
from schemas.reply import Reply

SCHEMA = CompiledSchema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})


def reply(*choices: dict[str, Any], usage: object = None) -> Reply:
    body = {"id": "c", "object": "chat.completion", "model": "served", "choices": list(choices), "usage": usage}
    return reply_of(body, asked_model="asked")


def choice(content: str | None = None, finish_reason: str | None = "stop", **message: object) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}


def judged(*choices: dict[str, Any], schema: CompiledSchema | None = SCHEMA) -> Judged:
    return judge(reply(*choices), schema, Work(None))


def call(arguments: object) -> dict[str, Any]:
    return {"id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("content", "step"),
    [
        ('{"a": 1}', "direct"),
        ('```json\n{"a": 1}\n```', "fenced"),
        ('```json\n{"b": 1}\n```\nor\n```\n{"a": 1}\n```', "fenced"),
        ('Here: {"x": {}} no, {"a": 1}!', "embedded"),
        ("{'a': 1}", "repaired"),
    ],
)
def test_the_first_candidate_that_meets_the_contract_wins(content: str, step: str) -> None:
    outcome = judged(choice(content))

    assert isinstance(outcome, Valid)
    assert (outcome.output, outcome.recovery) == ({"a": 1}, step)


def test_a_recovered_answer_becomes_json_alone_and_the_reply_is_unchanged() -> None:
    raw = reply(choice('{"a": 1}'), choice('Sure! ```json\n{"a": 2}\n```'))

    outcome = judge(raw, SCHEMA, Work())

    assert isinstance(outcome, Valid)
    contents = [one["message"]["content"] for one in outcome.reply.body["choices"]]
    assert contents == ['{"a": 1}', '{"a":2}']
    assert "Sure" in raw.body["choices"][1]["message"]["content"]


def test_a_recovered_answer_keeps_its_digits_and_shows_half_a_character() -> None:
    outcome = judged(choice('Here: {"a": 1, "b": "\\ud800", "c": 100000000000000000000}'))

    assert isinstance(outcome, Valid)
    assert outcome.reply.text == '{"a":1,"b":"\ufffd","c":100000000000000000000}'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"a": "1"}', "a: '1' is not of type 'integer'"),
        ("{}", "'a' is a required property"),
        ("no JSON here", NO_JSON),
        ("", NO_JSON),
        (None, NO_CONTENT),
    ],
)
def test_what_breaks_the_contract_is_invalid_with_a_complaint(content: str | None, complaint: str) -> None:
    outcome = judged(choice(content))

    assert isinstance(outcome, Invalid)
    assert outcome.complaint == complaint


def test_a_truncated_reply_is_not_mended() -> None:
    assert isinstance(judged(choice('{"a": 1}', "length")), Truncated)


@pytest.mark.parametrize(
    "declined",
    [choice(None, refusal="I will not."), choice('{"a": 1}', "content_filter"), choice('{"a": 1}', refusal="No.")],
)
def test_refusals_and_filters_come_before_the_content(declined: dict[str, Any]) -> None:
    assert isinstance(judged(declined), Declined)


def test_a_refusal_is_told_in_its_own_words() -> None:
    outcome = judged(choice(None, refusal="I will not."))

    assert isinstance(outcome, Declined)
    assert outcome.reason == "I will not."


def test_without_a_contract_any_text_is_valid() -> None:
    assert isinstance(judged(choice("prose"), schema=None), Valid)


def test_a_reply_without_content_is_invalid_even_without_a_contract() -> None:
    assert isinstance(judged(choice(None), schema=None), Invalid)


def test_tool_calls_stand_for_the_content() -> None:
    assert isinstance(judged(choice(None, "tool_calls", tool_calls=[call("{}")]), schema=None), Valid)


def test_the_arguments_of_a_tool_are_held_against_the_contract() -> None:
    good, bad = call('{"a": 1}'), call('{"a": "x"}')

    assert isinstance(judged(choice(None, "tool_calls", tool_calls=[good])), Valid)
    assert isinstance(judged(choice(None, "tool_calls", tool_calls=[bad])), Invalid)


def test_every_choice_must_meet_the_contract() -> None:
    assert isinstance(judged(choice('{"a": 1}'), choice('{"a": 2}')), Valid)
    assert isinstance(judged(choice('{"a": 1}'), choice('{"b": 2}')), Invalid)


@pytest.mark.parametrize(
    "body",
    [
        None,
        "<html>",
        [],
        {},
        {"id": "job_1", "status": "queued"},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
    ],
)
def test_what_is_no_completion_is_not_taken_for_one(body: object) -> None:
    assert not is_completion(body)


def test_usage_is_read_whole() -> None:
    raw = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }

    assert usage_of(raw) == Usage(
        input_tokens=100, output_tokens=50, cached_input_tokens=64, cache_write_tokens=30, reasoning_tokens=30
    )


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {"prompt_tokens": 5},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": "5", "completion_tokens": 2},
    ],
)
def test_missing_and_nonsensical_usage_is_unknown(raw: object) -> None:
    assert usage_of(raw) is None


def test_details_that_cannot_be_are_bounded() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 99}}

    assert usage_of(raw) == Usage(input_tokens=10, output_tokens=1, cached_input_tokens=10)


def test_the_model_that_served_is_recorded() -> None:
    assert reply(choice("x")).model == "served"


@pytest.mark.parametrize("odd", [10**9 + 1, 10**18, 2**63, -1, 1.5, "7", True, None, []])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_no_call_can_have_is_no_count(name: str, odd: object) -> None:
    assert usage_of({"prompt_tokens": 3, "completion_tokens": 2} | {name: odd}) is None


def test_a_reply_is_made_storable_where_it_enters() -> None:
    body = {"model": "m\0", "service_tier": "t" * 999, "choices": [{"message": {"content": "smile \ud83d\0"}}]}

    reply = reply_of(body, asked_model="asked")

    assert (reply.text, reply.model) == ("smile \ufffd\ufffd", "m\ufffd")
    assert reply.body["choices"][0]["message"]["content"] == reply.text
    assert len(reply.service_tier or "") == 256
