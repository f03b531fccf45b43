"""The clock of Postgres corrects a machine's."""

from datetime import UTC, datetime, timedelta

from tasks.wiring.database_clock import StoreClock


def test_a_clock_that_is_an_hour_off_is_corrected_by_the_store() -> None:
    true = datetime(2026, 1, 1, tzinfo=UTC)
    clock = StoreClock(lambda: true + timedelta(hours=1))

    clock.sync(true)

    assert clock.now() == true
