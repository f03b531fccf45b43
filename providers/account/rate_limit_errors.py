"""Reads which limit a 429's message names, and its figures. Pure.

Seen: "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 100000, Used 99918, Requested
2094. Please try again in 14h29m11.04s." The unit is reliable, the window is not.
"""

import re
from datetime import datetime

from providers.account.headers import wait_in_words_ms
from schemas.admission import LimitFigures, WaitReason

_NUMBER = r"[: ]+(\d[\d,]{0,18})"
_FIGURES = re.compile(rf"\bLimit{_NUMBER}.*?\bUsed{_NUMBER}.*?\bRequested{_NUMBER}", re.IGNORECASE | re.DOTALL)
_LIMIT = re.compile(r"\b(requests|tokens)(?: per |/)(min|day)", re.IGNORECASE)
_BY_NAME = {
    ("requests", "min"): WaitReason.REQUESTS,
    ("tokens", "min"): WaitReason.TOKENS,
    ("requests", "day"): WaitReason.REQUESTS_PER_DAY,
    ("tokens", "day"): WaitReason.TOKENS_PER_DAY,
}


def limit_of(message: str, type_: object) -> WaitReason | None:
    """Return the limit by the message, else by the type, which names only the unit."""
    match = _LIMIT.search(message)
    if match is not None:
        return _BY_NAME[match[1].lower(), match[2].lower()]
    return _BY_NAME.get((type_, "min")) if isinstance(type_, str) else None


def figures_of(message: str, now: datetime) -> LimitFigures | None:
    """Return the figures and the wait; None unless all four are there."""
    match, wait_ms = _FIGURES.search(message), wait_in_words_ms(message, now)
    if match is None or wait_ms is None:
        return None
    limit, used, requested = (int(number.replace(",", "")) for number in match.groups())
    return LimitFigures(limit=limit, used=used, requested=requested, wait_ms=wait_ms)
