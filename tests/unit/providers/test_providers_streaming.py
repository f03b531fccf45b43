"""Chunks become one completion, however they were cut; events become data, wherever the bytes were cut."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sse import EventDecoder
from providers.streaming import Accumulator, MalformedChunkError


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: object
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def accumulated(*chunks: dict[str, Any]) -> Accumulator:
    accumulator = Accumulator(most_bytes=1_000_000, most_values=100_000)
    for one in chunks:
        accumulator.add(one)
    return accumulator


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USAGE_CHUNK = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}


def test_a_stream_becomes_a_whole_completion() -> None:
    stream = accumulated(
        chunk({"role": "assistant", "content": "", "refusal": None}, usage=None),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        USAGE_CHUNK,
    )

    assert stream.finished
    assert stream.completion() == {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def test_tool_calls_are_assembled_by_index() -> None:
    def calls(*deltas: dict[str, Any]) -> dict[str, Any]:
        return chunk({"tool_calls": list(deltas)})

    stream = accumulated(
        calls({"index": 0, "id": "t0", "type": "function", "function": {"name": "f", "arguments": ""}}),
        calls({"index": 1, "id": "t1", "type": "function", "function": {"name": "g", "arguments": '{"b"'}}),
        calls({"index": 0, "function": {"arguments": '{"a":'}}),
        calls({"index": 1, "function": {"arguments": ":2}"}}, {"index": 0, "function": {"arguments": "1}"}}),
        chunk({}, "tool_calls"),
    )

    message = stream.completion()["choices"][0]["message"]

    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "t1", "type": "function", "function": {"name": "g", "arguments": '{"b":2}'}},
    ]


def test_several_choices_are_kept_apart_and_all_must_finish() -> None:
    stream = accumulated(chunk({"content": "b"}, "stop", index=1), chunk({"content": "a"}))

    assert not stream.finished

    stream = accumulated(chunk({"content": "b"}, "stop", index=1), chunk({"content": "a"}), chunk({}, "length"))

    choices = stream.completion()["choices"]
    assert stream.finished
    assert [(one["message"]["content"], one["finish_reason"]) for one in choices] == [("a", "length"), ("b", "stop")]


def test_a_stream_without_choices_is_not_finished() -> None:
    assert not accumulated(USAGE_CHUNK).finished


def test_partial_text_and_bytes_are_known_at_any_moment() -> None:
    stream = accumulated(chunk({"role": "assistant"}), chunk({"content": "né"}), chunk({"reasoning_content": "hm"}))

    assert stream.text == "né"
    assert stream.produced_bytes == 5


def test_refusals_and_logprobs_are_accumulated() -> None:
    first, second = chunk({"refusal": "I "}), chunk({"refusal": "won't"}, "stop")
    first["choices"][0]["logprobs"] = {"content": [{"token": "I"}], "refusal": None}
    second["choices"][0]["logprobs"] = {"content": [{"token": "won't"}], "refusal": None}

    choice = accumulated(first, second).completion()["choices"][0]

    assert choice["message"]["refusal"] == "I won't"
    assert choice["logprobs"] == {"content": [{"token": "I"}, {"token": "won't"}], "refusal": None}


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "text",
        [],
        {"choices": 5},
        {"choices": None},
        {"choices": ["x"]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"index": "x", "delta": {}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": ["x"]}}]},
    ],
)
def test_what_is_no_chunk_is_told(nonsense: object) -> None:
    with pytest.raises(MalformedChunkError):
        Accumulator(most_bytes=1_000_000, most_values=100_000).add(nonsense)


@given(st.lists(st.text(), max_size=10))
def test_pieces_add_up_to_the_text(pieces: list[str]) -> None:
    stream = accumulated(*(chunk({"content": piece}) for piece in pieces))

    assert (stream.text or "") == "".join(pieces)
    assert stream.produced_bytes == len("".join(pieces).encode())


@given(st.lists(st.text(), max_size=6), st.lists(st.integers(1, 20), min_size=1), st.sampled_from(["\n", "\r\n"]))
def test_events_survive_any_cutting(texts: list[str], sizes: list[int], end: str) -> None:
    events = [orjson.dumps(text) for text in texts]
    raw = b"".join(b": keep-alive" + end.encode() + b"data: " + event + end.encode() * 2 for event in events)
    decoder, found = EventDecoder(1_000_000), []

    position, turn = 0, 0
    while position < len(raw):
        size = sizes[turn % len(sizes)]
        found += decoder.feed(raw[position : position + size])
        position, turn = position + size, turn + 1

    assert found + decoder.finish() == events


def test_a_last_event_without_its_blank_line_is_found_at_the_end() -> None:
    decoder = EventDecoder(1_000_000)

    assert decoder.feed(b"data: [DONE]") == []
    assert decoder.finish() == [b"[DONE]"]


def test_several_data_lines_are_one_event() -> None:
    assert EventDecoder(1_000_000).feed(b"event: x\ndata: {\ndata: }\nid: 5\n\n") == [b"{\n}"]
