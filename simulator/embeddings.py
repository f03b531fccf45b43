"""Makes repeatable embeddings: a bag of hashed words as a unit vector, so that similar texts are close."""

import base64
import math
import struct
from hashlib import blake2b

_DIMENSIONS_PER_WORD = 4


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
