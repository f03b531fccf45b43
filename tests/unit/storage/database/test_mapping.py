"""A row becomes a dataclass by the names of its columns, and nothing is left to a default by mistake."""

from dataclasses import dataclass

import pytest

from schemas.ids import JobId
from schemas.lanes import Lane
from schemas.states import JobState
from storage.database.mapping import read_as


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    id: JobId
    state: JobState
    lane: Lane | None
    steps: tuple[str, ...]
    scopes: frozenset[str]
    note: str | None = None


ROW = {"id": "job_1", "state": "queued", "lane": "low", "steps": ["a"], "scopes": ["b"], "note": None, "more": 1}


def test_columns_are_converted_by_the_types_of_their_fields() -> None:
    made = read_as(Made, ROW)

    assert made == Made(
        id=JobId("job_1"), state=JobState.QUEUED, lane=Lane.LOW, steps=("a",), scopes=frozenset({"b"}), note=None
    )
    assert (type(made.state), type(made.lane)) == (JobState, Lane)


def test_null_stays_null_and_given_fields_win_over_columns() -> None:
    made = read_as(Made, ROW | {"lane": None}, note="given")

    assert (made.lane, made.note) == (None, "given")


def test_a_field_without_a_column_is_an_error() -> None:
    with pytest.raises(KeyError):
        read_as(Made, {name: value for name, value in ROW.items() if name != "note"})
