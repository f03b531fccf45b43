"""A counter of tokens in the manner of byte-pair vocabularies, without any vocabulary: for judging estimates only.

Words of common length are one token, longer ones one per six letters; digits go by threes; scripts pay per character
what public vocabularies roughly charge. It is nobody's tokenizer: what it has in common with them is that words,
groups of digits and scripts count, and not characters.
"""

import re

_PIECES = re.compile(r"[A-Za-z]+|\d{1,3}|\s*\n+|[^\w\s]{1,2}|[^\W\d_]|_| {2,}")
_LETTERS_PER_TOKEN = 6
_RANDOM_LETTERS_PER_TOKEN = 2.2
_CASE_CHANGES = re.compile(r"[a-z][A-Z]")


def tokens_in(text: str) -> int:
    """Tokens of a text, at least one."""
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
