"""What a tenant or a provider sends takes bounded memory in web, upkeep and workers."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.figures import Figures
from tests.support.trial_callers import NO_ANSWER, Callers
from tests.support.trial_stack import Memory, TrialStack, eventually, prompt

MOST_MIB = 256.0
"""Above idle."""

CALLS, CALL_BYTES = 40, 3_900_000
LINES, LINE_BYTES = 40, 980_000
LETTERS, LETTER_BYTES = 40, 950_000
SPACES, BOMB_SPACES = 600_000_000, 400_000_000
REST_SECONDS = 120.0
DYING = {"status": 400, "body": '{"error": {"message": "no"}}'}


def with_many_values(size: int, **body: Any) -> bytes:  # noqa: ANN401 - of a request
    """A request of about this many bytes, in which every three bytes are a value."""
    written = json.dumps({"model": "small", "messages": prompt(), **body})
    return (written[:-1] + ', "tools": [' + "[]," * ((size - len(written)) // 3) + "[]]}").encode()


@pytest.mark.slow
async def test_calls_that_hold_a_million_values_each_take_bounded_memory(trials: TrialStack, figures: Figures) -> None:
    body = with_many_values(CALL_BYTES)

    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        with _memory(trials) as memory:
            answers, beside = await asyncio.gather(
                asyncio.gather(*(a.ask("POST", "/v1/chat/completions", body) for _ in range(CALLS))),
                b.mixed(calls=50, jobs=50),
            )

    assert beside.failures == 0, beside.complaint()
    assert all(answer.status not in {NO_ANSWER, 500} for answer in answers), [answer.status for answer in answers]
    _assert_bounded(memory, figures, f"{CALLS} calls of {CALL_BYTES} bytes of []", "web")


@pytest.mark.slow
async def test_a_batch_that_holds_many_values_takes_bounded_memory(trials: TrialStack, figures: Figures) -> None:
    lines = [
        b'{"custom_id": "%d", "method": "POST", "url": "/v1/chat/completions", "body": %b}'
        % (number, with_many_values(LINE_BYTES))
        for number in range(LINES)
    ]

    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        with _memory(trials) as memory:
            batch = (await a.batch(await a.upload(b"\n".join(lines)))).json
            beside = await b.mixed(calls=20, jobs=20)
            await _until_begun(a, batch["id"])

    assert beside.failures == 0, beside.complaint()
    _assert_bounded(memory, figures, f"batch of {LINES} lines of a megabyte of []", "web", "upkeep")


@pytest.mark.slow
async def test_import_and_export_of_many_values_take_bounded_memory(trials: TrialStack, figures: Figures) -> None:
    async with Callers.of(trials, "a") as a:
        await a.mixed(calls=0, jobs=1, script=DYING, rest_seconds=REST_SECONDS)
        [row, *_] = [line for line in trials.api("a").lines("dead-letters", "export") if line.strip()]
        request = with_many_values(LETTER_BYTES)
        letters = [_letter(json.loads(row), number, request) for number in range(LETTERS)]

        with _memory(trials) as memory:
            taken = await a.ask("POST", "/dead-letters/import", b"\n".join(letters))
            exported = await a.ask("GET", "/dead-letters/export")

    figures.note("import of 38 MB of []", "status, bytes exported again", (taken.status, len(exported.body)))
    assert NO_ANSWER not in {taken.status, exported.status}
    _assert_bounded(memory, figures, "import and export of 38 MB of []", "web")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("600 MB of spaces", {"spaces": SPACES}),
        ("400 MB of spaces, compressed", {"spaces": BOMB_SPACES, "gzip": True}),
        ("an error of 600 MB", {"spaces": SPACES, "status": 400, "body": "{}"}),
        ("a million values", {"body": [['{"choices": [', 1], ["[],", 1_300_000], ["[]]}", 1]]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_huge_reply_takes_bounded_memory(
    trials: TrialStack, figures: Figures, name: str, script: dict[str, Any]
) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        with _memory(trials) as memory:
            culprit, beside = await asyncio.gather(
                a.mixed(calls=2, jobs=2, script=script, rest_seconds=REST_SECONDS), b.mixed(calls=50, jobs=50)
            )

    figures.note(name, "provider called for one request at most", max(culprit.paid.values()), "its tries")
    assert beside.failures == 0, beside.complaint()
    assert all(job.state in {"completed", "dead"} for job in culprit.jobs), culprit.jobs
    _assert_bounded(memory, figures, name, "web", "standard-1")


def _letter(letter: dict[str, Any], number: int, request: bytes) -> bytes:
    """The line of another dead letter with this request."""
    plain = json.dumps({**letter, "id": f"{letter['id'][:-6]}{number:06d}", "attempts": [], "request": "REQUEST"})
    return plain.encode().replace(b'"REQUEST"', request)


def _memory(trials: TrialStack) -> Memory:
    return Memory(pids={name: trials.pid(name) for name in ("web", "upkeep", "standard-1")})


def _assert_bounded(memory: Memory, figures: Figures, trial: str, *names: str) -> None:
    for name in names:
        figures.note(trial, f"{name} above idle, MiB", memory.above_idle_mib(name), f"<= {MOST_MIB}")
    assert all(memory.above_idle_mib(name) <= MOST_MIB for name in names)
    assert all(memory.peak.values()), "every process lived"


async def _until_begun(a: Callers, batch_id: str) -> None:
    async def begun() -> bool:
        return bool((await a.ask("GET", f"/v1/batches/{batch_id}")).json["status"] != "validating")

    assert await eventually(begun, within_seconds=REST_SECONDS)
