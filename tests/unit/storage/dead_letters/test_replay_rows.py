"""Filters and patches of replays, to their JSON columns and back."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from schemas.contract import OutputContract
from schemas.decision import DeadReason
from schemas.ids import BatchId, JobId, TenantId
from schemas.jsons import dumps, parse
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.replay import DeadLetters, Patch
from storage.dead_letters.replay_rows import FILTER, PATCH, filter_json, patch_json

FILTERS = [
    DeadLetters(),
    DeadLetters(ids=(JobId("job_1"), JobId("job_2"))),
    DeadLetters(
        tenant_id=TenantId("acme"),
        reason=DeadReason.REFUSED,
        fingerprint="f1",
        batch_id=BatchId("batch_1"),
        model="small",
        prompt="greeting",
        since_at=datetime(2026, 11, 24, 10, tzinfo=UTC),
        until_at=datetime(2026, 11, 25, tzinfo=UTC),
    ),
]
PATCHES = [
    Patch(deadline_seconds=60),
    Patch(
        deadline_seconds=0.5,
        body={"model": "small", "messages": [], "seed": 10**30},
        model="large",
        lane=Lane.HIGH,
        parameters={"temperature": Decimal("0.12345678901234567890")},
        contract=OutputContract(schema={"type": "object"}, name="reply", strict=False),
        message={"role": "user", "content": "again"},
        max_cost_nano_usd=NanoUsd(5),
    ),
]


@pytest.mark.parametrize("which", FILTERS)
def test_a_filter_is_read_as_it_was_written(which: DeadLetters) -> None:
    text = dumps(filter_json(which))

    found = FILTER.validate_python(parse(text))

    assert found == which
    assert dumps(filter_json(found)) == text


@pytest.mark.parametrize("patch", PATCHES)
def test_a_patch_is_read_as_it_was_written(patch: Patch) -> None:
    text = dumps(patch_json(patch))

    found = PATCH.validate_python(parse(text))

    assert found == patch
    assert dumps(patch_json(found)) == text
