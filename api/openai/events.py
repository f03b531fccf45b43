"""Encodes server-sent events of a chat completion."""

from collections.abc import Iterator

from schemas.jsons import JsonObject, dumps

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

SHARED = ("id", "created", "model", "service_tier", "system_fingerprint")
"""Fields that every chunk repeats."""


def event(value: JsonObject) -> bytes:
    """Encode one event. SDKs raise APIError for an error object."""
    return b"data: " + dumps(value) + b"\n\n"


def chunks_of(reply: JsonObject, *, include_usage: bool) -> Iterator[JsonObject]:
    """Yield a reply as stream chunks."""
    shared = {name: reply[name] for name in SHARED if name in reply} | {"object": "chat.completion.chunk"}
    usage: JsonObject = {"usage": None} if include_usage else {}
    for choice in reply.get("choices", []):
        yield shared | usage | {"choices": [_part(choice, _delta(choice), None)]}
        yield shared | usage | {"choices": [_part(choice, {}, choice.get("finish_reason"))]}
    if include_usage:
        yield shared | {"choices": [], "usage": reply.get("usage")}


def _part(choice: JsonObject, delta: JsonObject, finish_reason: str | None) -> JsonObject:
    logprobs = choice.get("logprobs") if finish_reason is None else None
    return {"index": choice.get("index", 0), "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _delta(choice: JsonObject) -> JsonObject:
    message: JsonObject = choice.get("message") or {}
    delta = {name: value for name, value in message.items() if name != "tool_calls"}
    calls = message.get("tool_calls")
    if calls:
        delta["tool_calls"] = [call | {"index": index} for index, call in enumerate(calls)]
    return delta
