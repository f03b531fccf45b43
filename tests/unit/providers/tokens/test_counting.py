"""Counting exactly: only with a sound vocabulary that is there already."""

from pathlib import Path

import pytest

from providers.tokens.counting import CACHE_DIR, FILES, Counter, counters, is_sound
from providers.tokens.estimates import Estimates
from schemas.job import Target


class Letters:
    """A vocabulary in which every character is a token."""

    def encode_ordinary(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def test_without_a_folder_nothing_is_counted() -> None:
    assert counters({})("gpt-4.1") is None


@pytest.mark.parametrize("name", list(FILES))
def test_a_vocabulary_that_is_missing_or_damaged_is_not_asked_for(tmp_path: Path, name: str) -> None:
    assert not is_sound(tmp_path, name)
    (tmp_path / FILES[name][0]).write_bytes(b"IQ== 0\n")

    assert not is_sound(tmp_path, name)
    assert counters({CACHE_DIR: str(tmp_path)})("gpt-4.1") is None
    assert (tmp_path / FILES[name][0]).exists()


def test_a_vocabulary_that_nobody_knows_is_not_sound(tmp_path: Path) -> None:
    assert not is_sound(tmp_path, "something")


def test_what_is_counted_is_asked_for_with_the_frame_of_a_chat() -> None:
    estimates = Estimates(lambda _: Counter("letters", Letters()))
    body = {"messages": [{"role": "user", "content": "x" * 100}]}

    estimate = estimates.estimate(Target(account="a", model="m"), body, 1_000)

    assert estimate.measured is not None
    assert estimates.likely(estimate.measured) == pytest.approx(107)
    assert 107 <= estimate.tokens <= 107 * 1.06


def test_bytes_that_are_no_text_are_counted_not_feared() -> None:
    assert Counter("letters", Letters()).count("é".encode()[:1] + b"a") == 2
