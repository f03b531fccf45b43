"""Parses a batch's endpoint, completion window and stop-loss. Pure."""

import re
from collections.abc import Mapping

from schemas.errors import InvalidRequest
from schemas.stop_loss import StopLoss
from tasks.batches.lines import SUPPORTED_ENDPOINTS
from tasks.requests.chat import MAX_DEADLINE_SECONDS, max_cost

WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
SECONDS_OF = {"m": 60, "h": 3_600, "d": 86_400}

RATE = re.compile(r"0?\.[0-9]{1,9}|0|1|1\.0{1,9}", re.ASCII)
CANARY = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
MAX_CANARY = 50_000


def checked_endpoint(endpoint: str) -> str:
    """Check the endpoint. Raises InvalidRequest."""
    if endpoint not in SUPPORTED_ENDPOINTS:
        raise InvalidRequest(f"endpoint must be one of {', '.join(SUPPORTED_ENDPOINTS)}.", param="endpoint")
    return endpoint


def window_seconds(completion_window: str) -> int:
    """Parse `<n>m`, `<n>h` or `<n>d` of up to 30 days. Raises InvalidRequest.

    OpenAI accepts only `24h`.
    """
    match = WINDOW.fullmatch(completion_window)
    seconds = int(match[1]) * SECONDS_OF[match[2]] if match else 0
    if not 0 < seconds <= MAX_DEADLINE_SECONDS:
        raise InvalidRequest(
            "completion_window must be a number of minutes, hours or days such as 24h, and at most 30d.",
            param="completion_window",
        )
    return seconds


def stop_loss(metadata: Mapping[str, str] | None) -> StopLoss:
    """Read the stop-loss from metadata.

    Keys: `max_cost_usd`, `max_error_rate` (0 to 1), `canary` (number of first requests). Raises InvalidRequest with the
    key.
    """
    options = dict(metadata or {})
    rate, canary = options.get("max_error_rate"), options.get("canary")
    if rate is not None and not RATE.fullmatch(rate):
        raise InvalidRequest(
            "max_error_rate must be a number from 0 to 1 such as 0.05.", param="metadata.max_error_rate"
        )
    if canary is not None and not (CANARY.fullmatch(canary) and int(canary) <= MAX_CANARY):
        raise InvalidRequest(f"canary must be a whole number from 1 to {MAX_CANARY}.", param="metadata.canary")
    try:
        cost = max_cost(options)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param="metadata.max_cost_usd") from error
    return StopLoss(
        max_cost_nano_usd=cost,
        max_error_rate=None if rate is None else float(rate),
        canary=None if canary is None else int(canary),
    )
