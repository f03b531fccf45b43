import json
import zlib

import pytest

from simulator.scripted import ABSURD_TOKENS, HUGE_INTEGER, Script, directive, odd, script_of
from simulator.settings import BadSetting

COMPLETION = json.dumps(
    {"model": "m", "choices": [{"message": {"content": "as it was"}, "finish_reason": "stop"}], "usage": {}}
).encode()
SOUND = '{"kind": "fan", "size": 3}'


def test_a_message_carries_its_script_whatever_stands_around_it() -> None:
    marker = directive(id="a-1", content="half \ud83d", usage={"prompt_tokens": 10**18})

    script = script_of(f"Please {marker} now")

    assert script == Script(id="a-1", content="half \ud83d", usage={"prompt_tokens": 10**18})


def test_a_message_without_a_script_has_none() -> None:
    assert script_of("[[scenario:throttle]] and [[answer:x]]") is None


def test_a_script_with_a_name_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadSetting):
        directive(colour="red")
    with pytest.raises(BadSetting):
        script_of("[[script:e30x]]")


def test_parts_of_a_completion_are_replaced_and_the_rest_stays() -> None:
    script = Script(model="a\x00b", usage={"prompt_tokens": HUGE_INTEGER}, message={"refusal": "\ud83d"})

    body = json.loads(script.put_over(COMPLETION))

    assert (body["model"], body["usage"]) == ("a\x00b", {"prompt_tokens": HUGE_INTEGER})
    assert body["choices"][0]["message"] == {"content": "as it was", "refusal": "\ud83d"}


def test_repeated_pieces_and_spaces_make_large_bodies_out_of_short_scripts() -> None:
    script = Script(body=[["[", 1], ["{},", 3], ["{}]", 1]], spaces=5, chunk_bytes=4)

    assert b"".join(script.slices(script.put_over(COMPLETION))) == b"     [{},{},{},{}]"


def test_a_compressed_body_unfolds_to_what_was_asked_for() -> None:
    script = Script(body="{}", spaces=3_000_000, gzip=True)

    sent = b"".join(script.slices(b"{}"))

    assert len(sent) < 10_000
    assert zlib.decompress(sent, wbits=31) == b" " * 3_000_000 + b"{}"


def test_odd_replies_are_each_of_a_kind_and_all_kinds_come() -> None:
    kinds = [odd(seed, SOUND) for seed in range(7)]

    assert len({repr(kind) for kind in kinds}) == 7
    assert kinds[2].text == SOUND.replace("3", str(HUGE_INTEGER))
    assert kinds[6].usage == {"prompt_tokens": ABSURD_TOKENS, "completion_tokens": ABSURD_TOKENS}
