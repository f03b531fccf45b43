"""Counts tokens exactly if tiktoken and a vocabulary file are installed.

tiktoken would fetch a missing or damaged file, so it is called only for an intact file in `TIKTOKEN_CACHE_DIR`.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

import structlog

log = structlog.get_logger()

CACHE_DIR = "TIKTOKEN_CACHE_DIR"

FILES = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""File name in tiktoken's cache (sha1 of its address) and the file's sha256."""


class Encoding(Protocol):
    """The used part of tiktoken's encoding."""

    def encode_ordinary(self, text: str) -> list[int]:
        """Encode without special tokens."""


class Counter:
    """Counts tokens by one vocabulary."""

    def __init__(self, name: str, encoding: Encoding) -> None:
        self.name = f"{name}/1"
        """Names the features of a lesson."""
        self._encoding = encoding

    def count(self, text: bytes) -> int:
        """Count the tokens of UTF-8; cut characters are replaced."""
        return len(self._encoding.encode_ordinary(text.decode("utf-8", "replace")))


def counters(env: Mapping[str, str]) -> Callable[[str], Counter | None]:
    """Return a function that finds a model's counter.

    None without tiktoken, an intact file, or for an unknown model.
    """
    folder = env.get(CACHE_DIR)
    if not folder:
        return lambda _: None

    @cache
    def opened(name: str) -> Counter | None:
        if not is_sound(Path(folder), name):
            log.info("vocabulary_missing", vocabulary=name, folder=folder)
            return None
        return Counter(name, import_module("tiktoken").get_encoding(name))

    @cache
    def counter_of(model: str) -> Counter | None:
        name = _encoding_name(model)
        return None if name is None else opened(name)

    return counter_of


def is_sound(folder: Path, name: str) -> bool:
    """Whether the folder holds this vocabulary intact."""
    file, sha256 = FILES.get(name, ("", ""))
    try:
        return hashlib.sha256((folder / file).read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _encoding_name(model: str) -> str | None:
    try:
        name = import_module("tiktoken.model").encoding_name_for_model(model)
    except (ImportError, KeyError):
        return None
    return str(name)
