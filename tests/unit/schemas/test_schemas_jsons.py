"""JSON in and out without loss: digits, odd characters and depth."""

import json
import math
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.jsons import (
    MAX_EXPONENT,
    MAX_NUMBER_CHARACTERS,
    MAX_REPLY_LEVELS,
    NEW_LINE,
    SORTED_KEYS,
    MalformedJson,
    dumps,
    is_deeper,
    parse,
    parse_embedded,
    parse_reply,
)
from tests.support.odd_json import AnyJson, Numbers


@given(Numbers)
def test_a_number_keeps_its_value_on_the_way_in_and_out(text: str) -> None:
    written = dumps(parse(text)).decode()

    assert Decimal(written) == Decimal(text)


@given(AnyJson, st.sampled_from([0, SORTED_KEYS, NEW_LINE]))
def test_what_was_parsed_is_written_and_parsed_again_the_same(value: object, option: int) -> None:
    parsed = parse(dumps(value))  # halves of a pair that stood side by side are one character now

    assert parse(dumps(parsed, option)) == parsed


@given(AnyJson)
def test_what_is_written_is_json_for_every_reader(value: object) -> None:
    assert json.loads(dumps(value), parse_float=Decimal) == json.loads(dumps(value).decode(), parse_float=Decimal)


@given(st.binary(max_size=60) | st.text(st.characters(codec=None), max_size=60))
def test_whatever_comes_it_is_json_or_it_is_malformed(raw: bytes | str) -> None:
    for read in (parse, parse_reply):
        try:
            dumps(read(raw))
        except MalformedJson:
            continue


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551617", 18446744073709551617),
        ("0.1", 0.1),
        ("1E5", 100_000.0),
        ("5e-324", 5e-324),
        ("0.12345678901234567890123", Decimal("0.12345678901234567890123")),
        ("1e400", Decimal("1E+400")),
        ("1e-400", Decimal("1E-400")),
    ],
)
def test_a_double_is_used_where_it_holds_every_digit(text: str, value: object) -> None:
    found = parse(text)

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        "9" * (MAX_NUMBER_CHARACTERS + 1),
        "0." + "1" * MAX_NUMBER_CHARACTERS,
        f"1e{MAX_EXPONENT + 1}",
        "1e99999999999999999999999",
        "[" * 100_000,
        '{"a":' * 5_000,
        b'"\xff"',
        b'"\xed\xa0\xbd"',
        '"\ud83d"',
        "",
        "{} x",
    ],
)
def test_what_cannot_be_kept_is_malformed(text: str | bytes) -> None:
    with pytest.raises(MalformedJson):
        parse(text)


def test_a_reply_may_say_infinity_and_every_reader_finds_it() -> None:
    written = dumps(parse_reply('{"logprob": -Infinity, "other": NaN, "most": Infinity}'))

    assert json.loads(written) == {"logprob": -math.inf, "other": None, "most": math.inf}


def test_a_reply_nests_so_deep_and_no_deeper() -> None:
    deepest = "[" * MAX_REPLY_LEVELS + "]" * MAX_REPLY_LEVELS

    assert parse_reply(deepest) is not None
    for read in (parse_reply, lambda text: parse_embedded(text, 0)):
        with pytest.raises(MalformedJson, match="nests"):
            read(f"[{deepest}]")


def levels(value: object) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(levels, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(AnyJson, st.integers(0, 6))
def test_a_text_is_as_deep_as_its_value(value: object, most: int) -> None:
    assert is_deeper(dumps(value), most) == (levels(value) > most)


def test_brackets_in_strings_are_no_levels() -> None:
    tricky = {"[[[": "]]]]", '"[': ["\\", '\\"[[[[', "{{{"]}

    assert [is_deeper(dumps(tricky), most) for most in (1, 2)] == [True, False]


def test_an_orderly_value_is_written_by_orjson_alone() -> None:
    value = {"b": [1, 2.5, None, True, "ü\u2028"], "a": {}}

    assert dumps(value, SORTED_KEYS) == orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def test_what_is_no_json_value_is_refused() -> None:
    for value in ({1: 10**30}, [10**30, object()], {"a": Decimal("NaN")}):
        with pytest.raises(TypeError):
            dumps(value)
