"""What a call's end says is storable, whatever the provider's headers and the clock said."""

from types import SimpleNamespace
from typing import Any

import pytest

from providers.account.call_state import Exchange
from providers.chat.streaming import Accumulator
from schemas.job import Target
from schemas.reply import Reply, Trouble

PLAN: Any = SimpleNamespace(
    target=Target(account="a", model="m"), quote=SimpleNamespace(input_tokens=1, output_tokens=1)
)
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


def test_an_errors_message_and_code_are_storable() -> None:
    trouble = Exchange(PLAN, "sk-key", PATIENCE).replied({"error": {"message": "m\0\ud83d", "code": "c\0\ud83d"}})

    assert isinstance(trouble, Trouble)
    assert (trouble.message, trouble.code) == ("m\ufffd\ufffd", "c\ufffd\ufffd")


def test_the_text_of_a_cut_stream_is_storable() -> None:
    exchange = Exchange(PLAN, "sk-key", PATIENCE)
    exchange.stream = Accumulator(most_bytes=100, most_values=100)
    for piece in ("whole \ud83d", "\ude00, half \ud83d", ", nul \0"):
        exchange.stream.add({"choices": [{"index": 0, "delta": {"content": piece}}]})

    trouble = exchange.streamed()

    assert isinstance(trouble, Trouble)
    assert trouble.partial_text == "whole \U0001f600, half \ufffd, nul \ufffd"
