"""What the sentence of a 429 says of the limit that it hit. Pure.

Seen: "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 100000, Used 99918,
Requested 2094. Please try again in 14h29m11.04s." The unit can be believed; whether the window is a minute or a day is
for the gate to find out from the figures. Whatever is not said is unknown.
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
    """The limit that was hit: as the sentence names it, else by the error's type, which names the unit alone."""
    named = _LIMIT.search(message)
    if named is not None:
        return _BY_NAME[named[1].lower(), named[2].lower()]
    return _BY_NAME.get((type_, "min")) if isinstance(type_, str) else None


def figures_of(message: str, now: datetime) -> LimitFigures | None:
    """Limit, Used, Requested and the wait; None unless all four are said."""
    found, wait_ms = _FIGURES.search(message), wait_in_words_ms(message, now)
    if found is None or wait_ms is None:
        return None
    limit, used, requested = (int(number.replace(",", "")) for number in found.groups())
    return LimitFigures(limit=limit, used=used, requested=requested, wait_ms=wait_ms)
