"""Makes repeatable embeddings: a bag of hashed words as a unit vector, so that similar texts are close."""

import base64
import math
import struct
from hashlib import blake2b

import orjson

from simulator.instances import Json

_DIMENSIONS_PER_WORD = 4
_MOST_DIMENSIONS = 1536


def vector(text: str, dimensions: int) -> list[float]:
    """Return a unit vector; the same for the same text."""
    found = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        digest = blake2b(word.encode(), digest_size=4 * _DIMENSIONS_PER_WORD).digest()
        for place in struct.unpack(f"<{_DIMENSIONS_PER_WORD}I", digest):
            found[(place >> 1) % dimensions] += 1.0 if place & 1 else -1.0
    length = math.sqrt(sum(value * value for value in found if value))
    if not length:
        found[0] = length = 1.0
    return [value / length for value in found]


def as_base64(values: list[float]) -> str:
    """Return little-endian 32-bit floats, which the SDK requests by default."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def texts_in(given: Json) -> list[str]:
    """The texts of a request's input; none where it holds no text."""
    match given:
        case str() if given:
            return [given]
        case [*items] if all(isinstance(item, str) for item in items):
            return [str(item) for item in items]
        case [*items] if all(isinstance(item, int) for item in items):
            return [" ".join(str(item) for item in items)]  # one text, given as token numbers
    return []


def body_of(request: dict[str, Json], model: str, texts: list[str], tokens: int) -> bytes:
    """The whole answer, as JSON text."""
    asked = request.get("dimensions")
    dimensions = min(asked, _MOST_DIMENSIONS) if isinstance(asked, int) and asked > 0 else _MOST_DIMENSIONS
    vectors = [vector(text, dimensions) for text in texts]
    packed = request.get("encoding_format") == "base64"
    found = [as_base64(values) if packed else values for values in vectors]
    return orjson.dumps(
        {
            "object": "list",
            "model": model,
            "data": [{"object": "embedding", "index": index, "embedding": item} for index, item in enumerate(found)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
