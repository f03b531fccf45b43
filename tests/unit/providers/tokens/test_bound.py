"""The bound is never below the bytes of what is said, and media do not cost by theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.tokens.bound import (
    AUDIO_BYTES_PER_TOKEN,
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    STORED_FILE_TOKENS,
    output_bound,
    prompt_bound,
)
from schemas.storable import MAX_CALL_TOKENS

TOKENS_PER_MESSAGE = 4


def body(content: object, **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_the_bound_is_never_below_the_bytes_of_all_messages(texts: list[str]) -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}

    said = sum(len(text.encode()) + TOKENS_PER_MESSAGE for text in texts)

    assert prompt_bound(asked) >= said


@given(st.text(), st.text(), st.integers(0, 3))
def test_more_content_never_lowers_the_bound(text: str, more: str, pictures: int) -> None:
    parts = [{"type": "text", "text": text}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

    assert prompt_bound(body([*parts, {"type": "text", "text": more}, *[picture] * pictures])) > prompt_bound(
        body(parts)
    )


@given(st.text())
def test_tools_and_schemas_are_counted(text: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": text}}

    assert prompt_bound(body("x", tools=[tool])) >= len(text.encode()) + prompt_bound(body("x"))


def test_lone_surrogates_are_counted_not_feared() -> None:
    assert prompt_bound(body("\ud800" * 100)) >= 300


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}}, IMAGE_TOKENS),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9_000, "detail": "low"}},
            LOW_DETAIL_IMAGE_TOKENS,
        ),
        ({"type": "input_audio", "input_audio": {"data": "A" * 1_600_000}}, 1_600_000 // AUDIO_BYTES_PER_TOKEN),
        ({"type": "file", "file": {"file_id": "file-1"}}, STORED_FILE_TOKENS),
        ({"type": "file", "file": {"file_data": "A" * 5_000}}, IMAGE_TOKENS + 5_000),
    ],
)
def test_media_are_bounded_on_their_own(part: dict[str, object], tokens: int) -> None:
    assert tokens <= prompt_bound(body([part])) <= tokens + 250


def test_text_that_speaks_of_media_is_text() -> None:
    assert prompt_bound(body('"image_url"')) < 200


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({}, 1_024),
        ({"max_completion_tokens": 50}, 50),
        ({"max_tokens": 60}, 60),
        ({"max_tokens": 60, "max_completion_tokens": 50}, 60),
        ({"max_completion_tokens": 50, "n": 3}, 150),
        ({"n": 2}, 2_048),
        ({"n": "nonsense", "max_tokens": None}, 1_024),
        ({"n": True, "max_tokens": -1}, 1_024),
    ],
)
def test_output_counts_choices_and_limits(more: dict[str, object], tokens: int) -> None:
    assert output_bound(body("x", **more), 1_024) == tokens


@pytest.mark.parametrize("asked", [{"max_tokens": 2**63}, {"n": 2**40, "max_completion_tokens": 2**40}])
def test_no_number_asks_for_more_than_a_call_can_take(asked: dict[str, object]) -> None:
    assert output_bound(body("hi", **asked), 100) == MAX_CALL_TOKENS
