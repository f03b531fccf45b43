"""Encodes a chat completion: one body, or the chunks of a stream. Opens no socket.

A stream has a chunk with the role, chunks of content, a chunk with finish_reason, with include_usage a chunk of usage
without choices, then [DONE]. With include_usage every other chunk carries usage: null.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from simulator.answers import Answer
from simulator.meter import Usage

DONE = b"data: [DONE]\n\n"
_MOST_PIECES = 16
_FINGERPRINT = "fp_simulator"


@dataclass(frozen=True, kw_only=True)
class Heading:
    """Fields that every object of one completion repeats."""

    completion_id: str
    created: int
    model: str


def plain(heading: Heading, answer: Answer, *, metadata: object = None) -> bytes:
    """Return the body of a completion that is not streamed."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": answer.content,
        "refusal": answer.refusal,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    body = {
        "id": heading.completion_id,
        "object": "chat.completion",
        "created": heading.created,
        "model": heading.model,
        "choices": [choice],
        "usage": usage_of(answer.usage),
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }
    return _written(body if metadata is None else body | {"metadata": metadata})


def usage_of(usage: Usage) -> dict[str, object]:
    """Return the usage object of a completion."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chunks(heading: Heading, answer: Answer, *, include_usage: bool) -> list[bytes]:
    """Return all events of the stream, [DONE] included."""
    found = [_chunk(heading, _choice({"role": "assistant", "content": "", "refusal": None}), include_usage)]
    field, text = ("content", answer.content) if answer.refusal is None else ("refusal", answer.refusal)
    found += [_chunk(heading, _choice({field: piece}), include_usage) for piece in _pieces(text or "")]
    found.append(_chunk(heading, _choice({}, answer.finish_reason), include_usage))
    if include_usage:
        found.append(_event(_frame(heading, []) | {"usage": usage_of(answer.usage)}))
    return [*found, DONE]


def error_event(body: bytes) -> bytes:
    """Return an error as an event of a stream."""
    return b"data: " + body + b"\n\n"


def _pieces(text: str) -> list[str]:
    size = max(4, -(-len(text) // _MOST_PIECES))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _choice(delta: Mapping[str, object], finish_reason: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


def _frame(heading: Heading, choices: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": heading.completion_id,
        "object": "chat.completion.chunk",
        "created": heading.created,
        "model": heading.model,
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
        "choices": choices,
    }


def _chunk(heading: Heading, choices: list[dict[str, object]], include_usage: bool) -> bytes:  # noqa: FBT001 - inner
    frame = _frame(heading, choices)
    return _event(frame | {"usage": None} if include_usage else frame)


def _event(frame: dict[str, object]) -> bytes:
    return b"data: " + _written(frame) + b"\n\n"


def _written(value: object) -> bytes:
    """Write JSON. Lone surrogates, which orjson refuses, are written as escapes, as providers send them."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
