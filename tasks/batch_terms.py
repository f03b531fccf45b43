"""What a batch may ask for: an endpoint that we serve, and a window in which its requests must be executed. Pure."""

import re

from schemas.errors import InvalidRequest
from tasks.batch_lines import SUPPORTED_ENDPOINTS
from tasks.requests import MAX_DEADLINE_SECONDS

WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
SECONDS_OF = {"m": 60, "h": 3_600, "d": 86_400}


def checked_endpoint(endpoint: str) -> str:
    """The endpoint itself. Raises InvalidRequest for one that no batch can have."""
    if endpoint not in SUPPORTED_ENDPOINTS:
        raise InvalidRequest(f"endpoint must be one of {', '.join(SUPPORTED_ENDPOINTS)}.", param="endpoint")
    return endpoint


def window_seconds(completion_window: str) -> int:
    """Seconds of `24h`, which is all that OpenAI takes, or of any other `<n>m`, `<n>h` or `<n>d` of up to 30 days."""
    found = WINDOW.fullmatch(completion_window)
    seconds = int(found[1]) * SECONDS_OF[found[2]] if found else 0
    if not 0 < seconds <= MAX_DEADLINE_SECONDS:
        raise InvalidRequest(
            "completion_window must be a number of minutes, hours or days such as 24h, and at most 30d.",
            param="completion_window",
        )
    return seconds
