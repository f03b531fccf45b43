"""How long a reservation lives beside the longest call."""

import pytest
from pydantic import SecretStr

from admission.gate import DEFAULT_LIFETIME_SECONDS
from config.settings import Settings
from storage.jobs.writes import OPENED_WITHIN_SECONDS
from tasks.wiring.infrastructure import OUTLIVES_CALL_SECONDS, reservation_seconds


@pytest.mark.parametrize("longest", [1.0, 600.0, 3_600.0])
def test_a_reservation_outlives_every_call_and_every_opening(longest: float) -> None:
    settings = Settings(
        redis_url=SecretStr("redis://h/0"), database_url=SecretStr("postgresql://h/d"), total_timeout_seconds=longest
    )

    lives = reservation_seconds(settings)

    assert lives >= longest + OUTLIVES_CALL_SECONDS
    assert lives >= DEFAULT_LIFETIME_SECONDS > 2 * OPENED_WITHIN_SECONDS
