"""What a call's end says is storable, whatever the provider's headers and the clock said."""

from types import SimpleNamespace
from typing import Any

import pytest

from providers.account.call_state import Exchange
from schemas.job import Target
from schemas.reply import Reply, Trouble

PLAN: Any = SimpleNamespace(target=Target(account="a", model="m"))
PATIENCE: Any = SimpleNamespace(elapsed_ms=lambda: 2**40)


@pytest.mark.parametrize(
    ("body", "kind"), [({"choices": [{"message": {"content": "hi"}}]}, Reply), ({"error": {"code": "c\0"}}, Trouble)]
)
def test_request_id_and_latency_fit_their_columns(body: object, kind: type[Reply | Trouble]) -> None:
    exchange = Exchange(PLAN, "sk-key", PATIENCE)
    exchange.answered(200, {"x-request-id": "r\0"})

    answer = exchange.replied(body)

    assert isinstance(answer, kind)
    assert (answer.request_id, answer.latency_ms) == ("r\ufffd", 2**31 - 1)
