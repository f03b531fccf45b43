"""The real gate of a process passes what the pipeline's fake passes."""

import uuid
from collections.abc import AsyncIterator

import pytest

from admission.connect import connected
from admission.local_gate import LocalGate
from tests.support.conformance import GateConformance


class TestLocalGate(GateConformance):
    @pytest.fixture
    async def gate(self, redis_url: str) -> AsyncIterator[LocalGate]:
        async with connected(redis_url, namespace=f"t{uuid.uuid4().hex}") as admission:
            await admission.ledger.rebuild(3, [], [])
            gate = LocalGate(admission.gate, jitter=lambda: 0.0)
            yield gate
            await gate.aclose()
