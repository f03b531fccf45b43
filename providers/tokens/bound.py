"""Bounds the tokens of a call from above, to reserve money. Pure and cheap.

A token is at least one byte. Images, audio and files are bounded separately.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.jsons import JsonObject, dumps
from schemas.storable import MAX_CALL_TOKENS

REQUEST_OVERHEAD_TOKENS = 16
"""Tokens added once per request: the reply's priming and the frame of tools."""

IMAGE_TOKENS = 48_169
"""gpt-4o-mini, the dearest known: 2,833 plus 8 tiles of 5,667 in high detail."""

LOW_DETAIL_IMAGE_TOKENS = 2_833
"""The same model with `detail: low`."""

AUDIO_BYTES_PER_TOKEN = 16
"""A second has ten tokens; even base64 speech at 1 kbit/s has more bytes per token."""

STORED_FILE_TOKENS = 250_000
"""A file named by id: up to 100 pages as text and image."""

_MEDIA = (b'"image_url"', b'"input_audio"', b'"file"')


@dataclass(frozen=True, slots=True)
class Media:
    """Most tokens of an image, audio or file, and its bytes that are not text."""

    tokens: int
    inline_bytes: int = 0


def prompt_bound(body: JsonObject) -> int:
    """Return an upper bound of the prompt's tokens, from the bytes that are sent."""
    raw = dumps(body)
    bound = len(raw) + REQUEST_OVERHEAD_TOKENS
    if any(mark in raw for mark in _MEDIA):
        bound += sum(media.tokens - media.inline_bytes for part in _parts(body) if (media := media_of(part)))
    return bound


def output_bound(body: JsonObject, default_max_output_tokens: int) -> int:
    """Return the most output tokens of all choices, capped at `MAX_CALL_TOKENS`."""
    limits = [_count(body.get(name)) for name in ("max_completion_tokens", "max_tokens")]
    most = max((limit for limit in limits if limit is not None), default=default_max_output_tokens)
    return min(most * (_count(body.get("n")) or 1), MAX_CALL_TOKENS)


def _parts(body: JsonObject) -> Iterator[JsonObject]:
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part


def media_of(part: JsonObject) -> Media | None:
    """Return the bound of a part that is not text, else None."""
    match part:
        case {"type": "image_url", "image_url": dict(image)}:
            least = LOW_DETAIL_IMAGE_TOKENS if image.get("detail") == "low" else IMAGE_TOKENS
            return Media(least, _inline_bytes(image.get("url")))
        case {"type": "input_audio", "input_audio": {"data": str(data)}}:
            return Media(len(data) // AUDIO_BYTES_PER_TOKEN, len(data))
        case {"type": "file", "file": {"file_id": str()}}:
            return Media(STORED_FILE_TOKENS)
        case {"type": "file"}:
            return Media(IMAGE_TOKENS)
    return None


def _inline_bytes(url: Any) -> int:  # noqa: ANN401 - unparsed
    return len(url) if isinstance(url, str) and url.isascii() and url.startswith("data:") else 0


def _count(value: Any) -> int | None:  # noqa: ANN401 - unparsed
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
