"""How the command line says who waits."""

import pytest

from cli.commands.limits import waiting_in_words
from schemas.jsons import JsonObject


def count(jobs: int, *, capped: bool = False) -> JsonObject:
    return {"jobs": jobs, "capped": capped, "queued": jobs, "in_place": 0, "parked": 0}


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        ({"high": count(2), "low": count(10_000, capped=True)}, "high 2, low >=10000"),
        ({}, "0"),
        (None, None),
    ],
)
def test_lanes_have_a_number_each_nobody_is_none_and_unknown_stays_unknown(
    lanes: JsonObject | None, words: str | None
) -> None:
    assert waiting_in_words(lanes) == words
