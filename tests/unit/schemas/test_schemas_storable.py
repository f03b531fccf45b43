"""What enters is made storable, or refused by the name of its field."""

import pytest
from hypothesis import given

from schemas.errors import InvalidRequest
from schemas.jsons import MAX_REQUEST_LEVELS, dumps
from schemas.storable import (
    MAX_NAME_CHARACTERS,
    refuse_long_name,
    refuse_unstorable,
    storable,
    storable_name,
    storable_text,
)
from tests.support.odd_json import AnyJson, AnyText


@given(AnyJson)
def test_a_storable_value_holds_no_nul_and_no_half_character(value: object) -> None:
    made = storable(value)

    refuse_unstorable(made)
    assert storable(made) is made


@given(AnyJson)
def test_only_what_is_storable_passes_the_door(value: object) -> None:
    if storable(value) is value:
        refuse_unstorable(value)
        return
    with pytest.raises(InvalidRequest) as refusal:
        refuse_unstorable(value)

    assert b"\0" not in refusal.value.message.encode()


@given(AnyText)
def test_text_for_a_column_is_utf8_without_nul(text: str) -> None:
    assert b"\0" not in storable_text(text).encode()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a\0b", "a\ufffdb"),
        ("smile \ud83d", "smile \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("tab\t", "tab\t"),
    ],
)
def test_what_cannot_be_kept_is_visible(said: str, kept: str) -> None:
    assert storable({said: [said]}) == {kept: [kept]}
    assert storable_text(said) == kept


def test_the_last_of_two_keys_that_become_the_same_wins() -> None:
    assert storable({"a\0": 1, "a\ufffd": 2}) == {"a\ufffd": 2}


def test_an_orderly_value_is_left_as_it_is() -> None:
    value = {"a": ["ü", "\n"]}

    assert storable(value) is value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"text": "a\0b"}]}]}, "messages[0].content[0].text"),
        ({"metadata": {"a": {"b": "\ud83d"}}}, "metadata.a.b"),
        ({"a": {"k\0": 1}}, "a key of a"),
        ({"x\ud83d": 1}, "a key of the body"),
    ],
)
def test_a_request_is_refused_by_the_name_of_its_field(body: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        refuse_unstorable(body)

    assert refusal.value.param == param


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_request_may_nest_so_deep_and_no_deeper() -> None:
    refuse_unstorable({"a": nested(MAX_REQUEST_LEVELS - 1)})
    with pytest.raises(InvalidRequest, match="64 levels") as refusal:
        refuse_unstorable({"fine": 1, "a": nested(MAX_REQUEST_LEVELS)})

    assert refusal.value.param == "a"


def test_a_wide_request_is_not_taken_for_a_deep_one() -> None:
    refuse_unstorable({"messages": [{"role": "user", "content": "hi"}] * 500})


def test_what_was_written_as_an_escape_in_text_is_no_nul() -> None:
    body = {"content": "the escape \\u0000 and \\ud83d"}

    refuse_unstorable(body, dumps(body))


def test_a_name_fits_an_index() -> None:
    refuse_long_name("ü" * MAX_NAME_CHARACTERS, "user")
    for name in ("u" * (MAX_NAME_CHARACTERS + 1), "a\0", "\ud83d"):
        with pytest.raises(InvalidRequest, match="user"):
            refuse_long_name(name, "user")
    assert storable_name("m" * 1_000) == "m" * MAX_NAME_CHARACTERS
