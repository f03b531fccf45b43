"""One item of upkeep's duties fails or is slow, and everybody else's go on.

What the product refuses at its doors by now is planted in Postgres as an earlier version stored it.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from simulator.scripted import directive
from tests.support.figures import Figures
from tests.support.heavy_contracts import SCHEMAS as HEAVY_SCHEMAS
from tests.support.heavy_contracts import HeavyContract
from tests.support.trial_callers import Callers
from tests.support.trial_stack import REPLY_MARKER, TrialStack, eventually, prompt

GOES_ON_SECONDS = 2.0
"""How much longer than alone a bystander's batch, replay, sealing or export may take."""

GIVE_UP_SECONDS = 60.0
FILE_BYTES = 30_000_000
HUGE_BATCHES = 4
POISONED_LINES: Sequence[HeavyContract] = HEAVY_SCHEMAS[2:]
DYING = {"status": 400, "body": '{"error": {"message": "no"}}'}
INDEX_BYTES = 2_704
"""The most that a row of a btree index holds."""

SEAL_EVERY_SECONDS, SEAL_ROUNDS = 10.0, 2
"""One round sets a mark, the next one seals up to it."""

UNDER_WAY = {"canary", "judging", "running"}


def line(custom_id: str, **body: Any) -> bytes:  # noqa: ANN401 - of a request
    whole = {"model": "small", "messages": prompt(directive(content=REPLY_MARKER))} | body
    written = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": whole}
    return json.dumps(written).encode()


async def test_a_poisoned_line_stops_no_other_batch(trials: TrialStack, figures: Figures) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        alone = await _batch_seconds(b)
        poisoned = []
        for number, heavy in enumerate(POISONED_LINES):
            content = b"\n".join([line("sound"), line("odd", **heavy.body(number))])
            poisoned.append((await a.batch(await a.upload(content))).json["id"])
        beside = await _batch_seconds(b)
        ended = await _ended(a, poisoned)

    figures.note("poisoned lines", "b's batch later than alone, s", beside - alone, f"<= {GOES_ON_SECONDS}")
    assert beside - alone <= GOES_ON_SECONDS
    assert set(ended.values()) <= {"failed", "completed"}, ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty lines", b"\n" * FILE_BYTES + line("last")),
        ("lines of 4,900 parts each", b"\n".join(line(str(n), **HEAVY_SCHEMAS[1].body(n)) for n in range(60))),
        ("lines of a megabyte", b"\n".join(line(str(n), tools=[[]] * 240_000) for n in range(30))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_huge_batches_delay_no_other_batch_nor_job(
    trials: TrialStack, figures: Figures, name: str, content: bytes
) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        alone, job_alone = await _batch_seconds(b), await _job_seconds(b)
        file_id = await a.upload(content)
        huge = [(await a.batch(file_id)).json["id"] for _ in range(HUGE_BATCHES)]
        beside, job_beside = await asyncio.gather(_batch_seconds(b), _job_seconds(b))
        for batch_id in huge:
            await a.ask("POST", f"/v1/batches/{batch_id}/cancel")

    figures.note(name, "b's batch later than alone, s", beside - alone, f"<= {GOES_ON_SECONDS}")
    figures.note(name, "b's normal job later than alone, s", job_beside - job_alone, f"<= {GOES_ON_SECONDS}")
    assert beside - alone <= GOES_ON_SECONDS
    assert job_beside - job_alone <= GOES_ON_SECONDS


@pytest.mark.slow
async def test_a_replay_that_cannot_move_stops_no_other_replay(trials: TrialStack, figures: Figures) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        [first] = await _dead_letters(b, 1)
        alone = await _replay_seconds(b, first)
        [poisoned], [second] = await _dead_letters(a, 1), await _dead_letters(b, 1)
        _give_longest_model(trials, poisoned)
        replay_id = (await a.ask("POST", "/replays", {"ids": [poisoned]})).json["id"]
        beside = await _replay_seconds(b, second)

        async def ended() -> bool:
            return (await a.ask("GET", f"/replays/{replay_id}")).json["state"] not in UNDER_WAY

        has_ended = await eventually(ended, within_seconds=GIVE_UP_SECONDS)

    figures.note("replay of a model too long for an index", "b's replay later, s", beside - alone, "<= 2")
    assert beside - alone <= GOES_ON_SECONDS
    assert has_ended


@pytest.mark.slow
async def test_a_scope_too_long_for_an_index_stops_no_sealing(trials: TrialStack, figures: Figures) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        poisoned = await a.mixed(calls=1, jobs=1)
        long_scope = json.dumps([[f"user:{_random_text(4_000)}", "day:2026-11-30"]])
        _change(trials, "UPDATE attempts SET counters = %s WHERE job_id = %s", long_scope, poisoned.jobs[0].id)
        await b.mixed(calls=2, jobs=2)
        newest = trials.stack.rows("SELECT max(id) AS id FROM ledger")[0]["id"]

        async def sealed() -> bool:
            return bool(trials.stack.rows("SELECT sealed_to >= %s AS done FROM tenant_ledger_seal", newest)[0]["done"])

        began = time.monotonic()
        is_sealed = await eventually(sealed, within_seconds=GIVE_UP_SECONDS)

    seconds = time.monotonic() - began
    bar = SEAL_ROUNDS * SEAL_EVERY_SECONDS + GOES_ON_SECONDS
    figures.note("scope of 4,000 characters", "sealing went past it after, s", seconds, f"<= {bar}")
    assert is_sealed
    assert seconds <= bar


@pytest.mark.slow
async def test_a_request_too_deep_to_show_breaks_no_export(trials: TrialStack, figures: Figures) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        others, [poisoned] = await _dead_letters(b, 5), await _dead_letters(a, 1)  # the latest is exported first
        deep = '{"model":"small","messages":' + "[" * 253 + "]" * 253 + "}"
        _change(trials, "UPDATE job_bodies SET body = %s WHERE job_id = %s", deep, poisoned)
        _change(trials, "UPDATE attempts SET request = %s WHERE job_id = %s", deep, poisoned)

        began = time.monotonic()
        exported = {json.loads(row)["id"] for row in trials.stack.api.lines("dead-letters", "export") if row.strip()}
        shown = await a.ask("GET", f"/jobs/{poisoned}")

    figures.note("request of 253 levels", "export of all tenants, s", time.monotonic() - began)
    figures.note("request of 253 levels", "others' letters missing in the export", len({*others} - exported), "0")
    assert {*others} <= exported
    assert shown.status == 200


async def _batch_seconds(b: Callers) -> float:
    """From the creation of a batch of one line to its end."""
    file_id = await b.upload(line("only"))
    began = time.monotonic()
    batch_id = (await b.batch(file_id)).json["id"]
    ended = await _ended(b, [batch_id])
    assert ended[batch_id] == "completed", ended
    return time.monotonic() - began


async def _job_seconds(b: Callers) -> float:
    """From the submission of a normal job to its end."""
    began = time.monotonic()
    load = await b.mixed(calls=0, jobs=1, rest_seconds=GIVE_UP_SECONDS)
    assert load.failures == 0, load.complaint()
    return time.monotonic() - began


async def _ended(callers: Callers, batch_ids: list[str]) -> dict[str, str]:
    """The statuses of batches, once none is under way or the time is over."""
    found: dict[str, str] = {}

    async def all_ended() -> bool:
        for batch_id in batch_ids:
            found[batch_id] = (await callers.ask("GET", f"/v1/batches/{batch_id}")).json["status"]
        return not {*found.values()} & {"validating", "in_progress", "finalizing", "cancelling"}

    await eventually(all_ended, within_seconds=GIVE_UP_SECONDS)
    return found


async def _dead_letters(callers: Callers, number: int) -> list[str]:
    """Have jobs die of their provider's refusal; returns their ids."""
    load = await callers.mixed(calls=0, jobs=number, script=DYING, rest_seconds=GIVE_UP_SECONDS)
    assert {job.state for job in load.jobs} == {"dead"}, load.complaint()
    return [job.id for job in load.jobs]


async def _replay_seconds(b: Callers, job_id: str) -> float:
    """From the start of a replay of one dead letter until it has moved."""
    began = time.monotonic()
    replay_id = (await b.ask("POST", "/replays", {"ids": [job_id]})).json["id"]

    async def moved() -> bool:
        return bool((await b.ask("GET", f"/replays/{replay_id}")).json["replayed"] == 1)

    assert await eventually(moved, within_seconds=GIVE_UP_SECONDS)
    return time.monotonic() - began


def _give_longest_model(trials: TrialStack, job_id: str) -> None:
    """Give a dead job the longest model that its indexes hold; those of queued jobs hold more than the model."""
    model = _random_text(INDEX_BYTES)
    for length in range(INDEX_BYTES, INDEX_BYTES - 100, -1):
        with suppress(psycopg.errors.ProgramLimitExceeded):
            _change(trials, "UPDATE jobs SET model = %s WHERE id = %s", model[:length], job_id)
            return
    raise AssertionError("no model of such a length fits")


def _random_text(length: int) -> str:
    """Text that no compression shortens."""
    chance = random.Random(1)  # noqa: S311 - a trial can be repeated
    return "".join(chr(chance.randrange(33, 126)) for _ in range(length))


def _change(trials: TrialStack, query: str, *values: object) -> None:
    with psycopg.connect(trials.stack.connection.database_url) as connection:
        assert connection.execute(query, values).rowcount > 0  # type: ignore[call-overload]  # text chosen here
