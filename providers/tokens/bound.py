"""Bounds the tokens of a call from above, to reserve money before it. Pure and cheap.

A token is at least one byte, so the bytes of the serialised request bound its text; the bytes of keys and braces cover
what a provider adds per message. The tokens of images, audio and files do not follow their bytes, so they are bounded
separately.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from providers.wire import encoded
from schemas.jsons import JsonObject
from schemas.storable import MAX_CALL_TOKENS

REQUEST_OVERHEAD_TOKENS = 16
"""Tokens that a provider adds once per request: the reply's priming and the frame of tools."""

IMAGE_TOKENS = 48_169
"""The dearest image known: gpt-4o-mini counts 2,833 and 8 tiles of 5,667 for one in high detail."""

LOW_DETAIL_IMAGE_TOKENS = 2_833
"""The same model's count of an image with `detail: low`."""

AUDIO_BYTES_PER_TOKEN = 16
"""A second of audio has ten tokens. In base64, even speech at 1 kbit/s has more bytes per token than this."""

STORED_FILE_TOKENS = 250_000
"""A file named by its id: up to 100 pages, each as text and as an image."""

_MEDIA = (b'"image_url"', b'"input_audio"', b'"file"')


@dataclass(frozen=True, slots=True)
class Media:
    """The most tokens of an image, audio or file, and how many of its bytes are not text."""

    tokens: int
    inline_bytes: int = 0


def prompt_bound(body: JsonObject) -> int:
    """Return an upper bound of the tokens of this request's prompt."""
    raw = encoded(body)
    bound = len(raw) + REQUEST_OVERHEAD_TOKENS
    if any(mark in raw for mark in _MEDIA):
        bound += sum(media.tokens - media.inline_bytes for part in _parts(body) if (media := media_of(part)))
    return bound


def output_bound(body: JsonObject, default_max_output_tokens: int) -> int:
    """Return the most tokens of all choices, by the larger of the two limits if both are set.

    Capped at what a call can possibly take, however large the requested number.
    """
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
    """Return the bound of a part whose tokens do not follow its bytes; None for text."""
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
