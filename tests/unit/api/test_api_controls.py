"""Pause, resume, move and cancel over HTTP: for operators, by kind and name."""

import pytest

from cli import controls as controls_cli
from schemas.ids import KeyId, TenantId
from schemas.jsons import JsonObject
from tests.support.door import client_of, error_of
from tests.support.house import FakeHouse

BATCH: JsonObject = {"kind": "batch", "name": "batch_1"}


async def test_what_is_paused_is_listed_until_it_is_resumed() -> None:
    async with client_of(FakeHouse()) as client:
        paused = (await client.post("/controls/pause", json=BATCH)).json()
        listed = (await client.get("/controls")).json()["data"]
        resumed = (await client.post("/controls/resume", json=BATCH)).json()
        after = (await client.get("/controls")).json()["data"]

    assert (paused["verb"], paused["jobs"], resumed["verb"]) == ("pause", 2, "resume")
    assert [row["id"] for row in listed] == ["pause/batch/batch_1"]
    assert set(controls_cli.COLUMNS) <= set(listed[0])
    assert after == []


async def test_a_move_names_its_lane_and_a_cancellation_goes_on_after_its_answer() -> None:
    async with client_of(FakeHouse()) as client:
        moved = (await client.post("/controls/move", json=BATCH | {"lane": "high"})).json()
        cancelled = (await client.post("/controls/cancel", json=BATCH)).json()

    assert (moved["lane"], moved["under_way"]) == ("high", True)
    assert (cancelled["verb"], cancelled["under_way"]) == ("cancel", True)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("pause", {"kind": "planet", "name": "x"}, "kind"),
        ("pause", {"kind": "job"}, "name"),
        ("cancel", {"kind": "job", "name": ""}, "name"),
        ("move", BATCH, "lane"),
        ("move", BATCH | {"lane": "express"}, "lane"),
        ("pause", BATCH | {"until": "noon"}, "until"),
    ],
)
async def test_a_wrong_word_is_named(path: str, body: JsonObject, param: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post(f"/controls/{path}", json=body)

    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


async def test_what_does_not_exist_cannot_be_stopped() -> None:
    async with client_of(FakeHouse()) as client:
        answers = [
            await client.post(f"/controls/{path}", json={"kind": "tenant", "name": "nobody"})
            for path in ("pause", "resume", "cancel")
        ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]


async def test_the_backlog_is_the_operators() -> None:
    house = FakeHouse()
    await house.keys.create(KeyId("key_1"), "pk_submitter", TenantId("acme"), ["submit"])

    async with client_of(house, key="pk_submitter") as client:
        answers = [await client.post("/controls/pause", json=BATCH), await client.get("/controls")]

    assert [answer.status_code for answer in answers] == [403, 403]
