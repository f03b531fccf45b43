"""Chunks become one completion, however they were cut; events become data, wherever the bytes were cut."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.account.sse import EventDecoder, EventTooLargeError
from providers.chat.streaming import Accumulator, MalformedChunkError, StreamTooLargeError


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: object
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def accumulated(*chunks: dict[str, Any], most_values: int = 100_000) -> Accumulator:
    accumulator = Accumulator(most_bytes=100_000, most_values=most_values)
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


def test_a_field_that_changes_its_kind_keeps_the_last() -> None:
    deltas = [{"x": 5}, {"x": [1]}, {"x": [2]}, {"x": {"a": 1}}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]

    assert accumulated(*chunks).completion()["choices"][0]["message"]["x"] == {"a": 1}
    assert EventDecoder(1_000_000).feed(b"event: x\ndata: {\ndata: }\nid: 5\n\n") == [b"{\n}"]


def test_a_line_that_comes_byte_by_byte_costs_time_in_proportion() -> None:
    decoder, line = EventDecoder(10_000_000), b"data: " + b"x" * 1_000_000
    began_at = time.process_time()
    found = [event for byte in line + b"\n\n" for event in decoder.feed(bytes((byte,)))]

    assert [len(event) for event in found] == [1_000_000]
    assert time.process_time() - began_at < 10


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"x" * 94 + b"\n", b"data:\n" * 3])
def test_an_event_is_bounded_by_its_lines_and_their_number(piece: bytes) -> None:
    def read() -> None:
        decoder = EventDecoder(10_000)
        for _ in range(200):
            decoder.feed(piece)

    with pytest.raises(EventTooLargeError):
        read()


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x" * 1_000},
        {"content": "x"},
        {"parts": [[], []]},
        {"parts": ["x" * 1_000]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]},
    ],
)
def test_what_is_kept_of_a_stream_is_bounded(delta: dict[str, Any]) -> None:
    chunks = [chunk(delta)] * 1_001

    with pytest.raises(StreamTooLargeError):
        accumulated(*chunks, most_values=1_000)


def test_new_names_choices_and_calls_are_kept_within_the_bound() -> None:
    many: list[dict[str, Any]] = [
        *(chunk({f"name{number}": None}) for number in range(1_000)),
        *(chunk({}, index=number) for number in range(1_000)),
        *(chunk({"tool_calls": [{"index": number}]}) for number in range(1_000)),
        *(chunk(**{f"name{number}": 1}) for number in range(1_000)),
    ]
    for start in range(0, len(many), 1_000):
        with pytest.raises(StreamTooLargeError):
            accumulated(*many[start : start + 1_000], most_values=990)


def test_lists_of_a_stream_grow_in_proportion_and_leave_the_chunks_alone() -> None:
    accumulator, first = Accumulator(most_bytes=100_000, most_values=1_000_000), chunk({"parts": [0]})
    accumulator.add(first)
    began_at = time.process_time()
    for _ in range(100_000):
        accumulator.add(chunk({"parts": [0]}))

    assert accumulator.completion()["choices"][0]["message"]["parts"] == [0] * 100_001
    assert first == chunk({"parts": [0]})
    assert time.process_time() - began_at < 10
