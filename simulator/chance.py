"""Draws repeatable random numbers from a seed and a purpose, without state or clock."""

from hashlib import blake2b

_SPAN = float(1 << 64)


def draw(seed: int, *about: object) -> float:
    """Return a number in [0, 1); the same for the same seed and words."""
    return seed_from(seed, *about) / _SPAN


def seed_from(seed: int, *about: object) -> int:
    """Return 64 bits that depend on the seed and on every word."""
    words = "\x1f".join([str(seed), *(str(word) for word in about)])
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big")
