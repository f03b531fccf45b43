"""A tenant has what its own table says, else what holds for every tenant, else the built-in value."""

from datetime import UTC, datetime

import pytest

from config.catalogue import Catalogue
from config.tenants import WAITING_BATCHES, TenantTable
from schemas.errors import InvalidRequest
from schemas.ids import TenantId
from schemas.lanes import Lane, checked_lane, usual_lane
from schemas.tenants import EVERY_LANE, TenantShare
from storage.tenancy.configuration import ConfigRow
from tasks.configuration.effective import effective_from, values_of
from tasks.tenancy.shares import TENANT_OF, Shares

TABLES = {
    "*": TenantTable(calls_in_flight=50, open_jobs=1_000, lanes=("normal", "low")),
    "acme": TenantTable(calls_in_flight=200, open_jobs="unlimited"),
    "vip": TenantTable(lanes=("critical", "high", "normal", "low")),
}


def shares_of(tables: dict[str, TenantTable]) -> Shares:
    """As they come back out of Postgres."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        ConfigRow(name=name, version=1, value=value, source="file", changed_at=at)
        for name, value in values_of(Catalogue(tenants=tables)).items()
    ]
    return effective_from(rows).shares


def test_what_a_table_leaves_out_is_as_for_every_tenant() -> None:
    shares = shares_of(TABLES)

    acme, vip, other = (shares.of(TenantId(name)) for name in ("acme", "vip", "other"))

    assert (acme.calls_in_flight, vip.calls_in_flight, other.calls_in_flight) == (200, 50, 50)
    assert (acme.open_jobs, other.open_jobs) == (None, 1_000)
    assert (acme.lanes, vip.lanes) == (frozenset({Lane.NORMAL, Lane.LOW}), EVERY_LANE)


def test_without_tables_only_the_number_of_waiting_batches_is_limited() -> None:
    assert shares_of({}).of(TenantId("any")) == TenantShare(tenant_id=TenantId("any"), waiting_batches=WAITING_BATCHES)
    assert not shares_of({}).of(TenantId("any")).limits_calls


def test_a_table_that_was_taken_out_limits_nothing() -> None:
    row = ConfigRow(
        name=f"{TENANT_OF}acme", version=2, value=None, source="file", changed_at=datetime(2026, 1, 1, tzinfo=UTC)
    )

    assert effective_from([row]).shares.of(TenantId("acme")).calls_in_flight is None


@pytest.mark.parametrize(
    ("default", "lanes", "usual"),
    [
        (Lane.CRITICAL, EVERY_LANE, Lane.CRITICAL),
        (Lane.CRITICAL, {Lane.NORMAL, Lane.LOW}, Lane.NORMAL),
        (Lane.NORMAL, {Lane.CRITICAL, Lane.LOW}, Lane.LOW),
        (Lane.NORMAL, {Lane.CRITICAL, Lane.HIGH}, Lane.HIGH),
    ],
)
def test_a_request_that_names_no_lane_gets_the_nearest_that_it_may_use(
    default: Lane, lanes: set[Lane], usual: Lane
) -> None:
    assert usual_lane(default, frozenset(lanes)) is usual


def test_a_lane_that_may_not_be_used_is_refused_with_those_that_may() -> None:
    with pytest.raises(InvalidRequest, match="not use the lane critical; lanes that it may use: high, low") as error:
        checked_lane(Lane.CRITICAL, frozenset({Lane.LOW, Lane.HIGH}))

    assert (error.value.code, error.value.param) == ("lane_forbidden", "lane")
