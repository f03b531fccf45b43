"""Every place where JSON may stand in a reply, most literal first; the contract chooses."""

from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract.recovery import MAX_REPAIRED_CHARACTERS, Step, candidates
from providers.contract.work import TooMuchWork, Work
from schemas.storable import storable

Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def found(text: str) -> list[tuple[Step, object]]:
    return [(one.step, one.value) for one in candidates(text, Work(None))]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('{"a": 1}', (Step.DIRECT, {"a": 1})),
        ("  [1, 2]\n", (Step.DIRECT, [1, 2])),
        ("42", (Step.DIRECT, 42)),
        ('```json\n{"a": 1}\n```', (Step.FENCED, {"a": 1})),
        ('```\r\n{"a": 1}\r\n```', (Step.FENCED, {"a": 1})),
        ('Here:\n```json\n{"a": 1}', (Step.FENCED, {"a": 1})),
        ('Sure! {"a": {"b": [1]}} Anything else?', (Step.EMBEDDED, {"a": {"b": [1]}})),
        ("The list is [1, 2, 3].", (Step.EMBEDDED, [1, 2, 3])),
        ('{"a": 1,}', (Step.REPAIRED, {"a": 1})),
        ("{'a': 'b'}", (Step.REPAIRED, {"a": "b"})),
        ('{"a": "b"', (Step.REPAIRED, {"a": "b"})),
        ('```json\n{"a": 1,}\n```', (Step.REPAIRED, {"a": 1})),
    ],
)
def test_the_first_candidate(text: str, first: tuple[Step, object]) -> None:
    assert found(text)[0] == first


def test_every_fenced_block_is_a_candidate() -> None:
    text = '```json\n{"draft": 1}\n```\nBetter:\n```json\n{"final": 2}\n```'

    assert [value for step, value in found(text) if step is Step.FENCED] == [{"draft": 1}, {"final": 2}]


def test_every_embedded_value_is_a_candidate() -> None:
    assert [value for _, value in found('first {"a": 1} [then] {"b": 2}')][:2] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("text", ["", "no JSON at all", "```\nplain\n```", "a } b ] c", "\ud800"])
def test_prose_has_no_candidates(text: str) -> None:
    assert found(text) == []


def test_what_is_not_json_is_not_taken_for_it() -> None:
    assert all(step is not Step.EMBEDDED for step, _ in found('say {"a": NaN} here'))


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 5_000 + "x", "[{" * 30_000, "[" + "]" * 9_000 + "{" * 8_000])
def test_hostile_nesting_comes_to_an_end(text: str) -> None:
    assert isinstance(found(text), list)


@given(Json, st.sampled_from(["{}", "```json\n{}\n```", "Well:\n```\n{}\n```\nDone."]))
def test_json_is_found_whatever_stands_around_it(value: object, frame: str) -> None:

    written = orjson.dumps(value).decode()

    if "```" not in written:
        assert storable(value) in [value for _, value in found(frame.replace("{}", written))]


@pytest.mark.parametrize(
    ("content", "output", "step"),
    [
        ('{"title": "smile \\ud83d"}', {"title": "smile \ufffd"}, "direct"),
        ('{"title": "a\\u0000"}', {"title": "a\ufffd"}, "direct"),
        ('Sure: {"wei": 100000000000000000001}', {"wei": 100000000000000000001}, "embedded"),
        ('```json\n{"wei": 100000000000000000001}\n```', {"wei": 100000000000000000001}, "fenced"),
        ('{"x": 0.12345678901234567890123}', {"x": Decimal("0.12345678901234567890123")}, "direct"),
        ('{"x": 0.12345678901234567890123,}', {"x": Decimal("0.12345678901234567890123")}, "repaired"),
        ('{"a\\ud83d": 1,}', {"a\ufffd": 1}, "repaired"),
    ],
)
def test_every_step_of_recovery_reads_numbers_and_halves_alike(content: str, output: object, step: str) -> None:
    assert found(content)[0] == (Step(step), output)


@pytest.mark.parametrize(
    "text",
    [
        "{" + "word " * 2_000,
        "[" * 200_000,
        '{"a": "' + '\\"' * 20_000,
        "{'a': '" + "it's " * 2_000,
        "prose [" * 60 + "x" * 300_000,
        ('{"a": [' + "1," * 3_000) * 60,
        '```json\n{"a":1,\n' * 3_000,
    ],
)
def test_what_takes_long_to_find_is_not_looked_for_on_the_event_loop(text: str) -> None:
    with pytest.raises(TooMuchWork):
        list(candidates(text, Work()))


@pytest.mark.parametrize("text", ['{"a": 1' + " " * 100_000 + "}", "Sure: " + '{"a": 1}' * 20, "{'a': 'b'}"])
def test_what_is_found_at_once_is_little_work(text: str) -> None:
    assert list(candidates(text, Work()))


def test_repair_is_bounded_over_all_pieces_of_a_reply() -> None:
    block = "```json\n{'a': '" + "b" * (MAX_REPAIRED_CHARACTERS // 2) + "'}\n```\n"

    steps = [step for step, _ in found(block * 5)]

    assert steps.count(Step.REPAIRED) == 1
