"""Values of a JSON text are counted before it is parsed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bounds import MAX_NODES, check_nodes, fits, node_bound
from schemas.errors import InvalidRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a,"\\[]{}:\n\u00e9\U0001f600'),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='a,"\\[{'), inner, max_size=5),
    max_leaves=40,
)


def _values(value: object) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_values(part) for part in inside)


@given(value=JSON, ascii_only=st.booleans())
def test_the_bound_is_between_the_values_and_twice_their_number(value: object, *, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert _values(value) <= node_bound(raw) <= 2 * _values(value)


@given(JSON, st.binary(max_size=20))
def test_what_follows_a_fault_hides_no_value_before_it(value: object, tail: bytes) -> None:
    assert node_bound(json.dumps([value]).encode()[:-1] + tail) >= 1 + _values(value)


def test_a_text_of_exactly_the_most_passes_and_one_more_does_not() -> None:
    check_nodes(json.dumps([0] * 9).encode(), 10)

    with pytest.raises(InvalidRequest, match="more than 9 values"):
        check_nodes(json.dumps([0] * 9).encode(), 9)


def test_commas_and_brackets_of_prose_count_nothing() -> None:
    prose = json.dumps({"content": ',[{"\\' * 500_000}).encode()

    check_nodes(prose)

    assert node_bound(prose) == 2


@pytest.mark.parametrize("raw", [b"[" + b"[]," * 60_000 + b"[]]", b'{"a":[' + b"0," * MAX_NODES + b"0]}"])
def test_many_small_values_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check_nodes(raw)


def test_more_strings_than_values_allow_are_refused_before_comparing_them() -> None:
    assert not fits(b'{"a":[' + b'"",' * (3 * MAX_NODES) + b"0]}")
    assert fits(b'{"a":[' + b'"",' * (MAX_NODES // 2) + b"0]}")
