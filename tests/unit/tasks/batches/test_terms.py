"""The terms that a batch can have."""

import pytest

from schemas.errors import InvalidRequest
from tasks.batches.terms import checked_endpoint, window_seconds


@pytest.mark.parametrize(("window", "seconds"), [("24h", 86_400), ("1m", 60), ("90m", 5_400), ("30d", 2_592_000)])
def test_a_window_is_minutes_hours_or_days(window: str, seconds: int) -> None:
    assert window_seconds(window) == seconds


@pytest.mark.parametrize(
    "window", ["", "24", "h", "0h", "01h", "-1h", "1w", "31d", "721h", "24h ", "1.5h", "٣h", "24H"]
)
def test_another_window_is_refused_by_name(window: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        window_seconds(window)

    assert caught.value.param == "completion_window"


def test_an_endpoint_that_we_do_not_serve_is_refused_by_name() -> None:
    assert checked_endpoint("/v1/chat/completions") == "/v1/chat/completions"
    with pytest.raises(InvalidRequest) as caught:
        checked_endpoint("/v1/embeddings")
    assert caught.value.param == "endpoint"
