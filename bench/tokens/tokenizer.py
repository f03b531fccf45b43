"""Counts tokens like a byte-pair vocabulary, without a vocabulary; only for judging estimates.

Words of common length are one token, longer ones one per six letters. Digits are grouped by threes. Scripts cost per
character about what public vocabularies charge. It matches no real tokenizer; it shares only that words, groups of
digits and scripts count, not characters.
"""

import re

_PIECES = re.compile(r"[A-Za-z]+|\d{1,3}|\s*\n+|[^\w\s]{1,2}|[^\W\d_]|_| {2,}")
_LETTERS_PER_TOKEN = 6
_RANDOM_LETTERS_PER_TOKEN = 2.2
_CASE_CHANGES = re.compile(r"[a-z][A-Z]")


def tokens_in(text: str) -> int:
    """Return the tokens of a text, at least one."""
    return max(1, round(sum(_tokens(piece) for piece in _PIECES.findall(text))))


def _tokens(piece: str) -> float:
    if piece.isascii():
        if not piece.isalpha():
            return 1.0
        changes = len(_CASE_CHANGES.findall(piece))
        return max(-(-len(piece) // _LETTERS_PER_TOKEN), changes and len(piece) / _RANDOM_LETTERS_PER_TOKEN)
    code = ord(piece[0])
    if code < 0x250:
        return 0.8
    if code < 0x900:
        return 0.35
    return 0.5 if code < 0x2000 else 0.8 if code < 0x10000 else 2.0
