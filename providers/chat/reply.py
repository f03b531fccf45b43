"""Turns a chat completion object into a reply. Pure.

The shape is checked, because an SDK accepts an error page as a completion.
"""

from typing import Any

from schemas.jsons import JsonObject, object_in
from schemas.money import Usage
from schemas.reply import Reply
from schemas.storable import MAX_CALL_TOKENS, storable, storable_name


def is_completion(body: Any) -> bool:  # noqa: ANN401 - unparsed
    """Whether this is a chat completion with at least one message."""
    match body:
        case {"choices": [_, *_] as choices}:
            return all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    return False


def reply_of(body: JsonObject, *, asked_model: str) -> Reply:
    """Read a body that `is_completion`; the first choice gives the text."""
    body = storable(body)
    choice = body["choices"][0]
    message = choice["message"]
    return Reply(
        body=body,
        text=_text(message.get("content")),
        finish_reason=_text(choice.get("finish_reason")),
        refusal=_text(message.get("refusal")),
        usage=usage_of(body.get("usage")),
        model=storable_name(_text(body.get("model"))) or asked_model,
        service_tier=storable_name(_text(body.get("service_tier"))),
    )


def usage_of(raw: Any) -> Usage | None:  # noqa: ANN401 - unparsed
    """Return the provider's count; None if missing or nonsense, so that the call costs its quote."""
    if not isinstance(raw, dict):
        return None
    prompt, completion = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    if prompt is None or completion is None or not prompt + completion:
        return None
    cached = _count(object_in(raw, "prompt_tokens_details").get("cached_tokens")) or 0
    written = _count(object_in(raw, "prompt_tokens_details").get("cache_write_tokens"))
    reasoning = _count(object_in(raw, "completion_tokens_details").get("reasoning_tokens")) or 0
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_input_tokens=min(cached, prompt),
        cache_write_tokens=written,
        reasoning_tokens=min(reasoning, completion),
    )


def _count(value: Any) -> int | None:  # noqa: ANN401 - unparsed
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_CALL_TOKENS else None


def _text(value: Any) -> str | None:  # noqa: ANN401 - unparsed
    return value if isinstance(value, str) else None
