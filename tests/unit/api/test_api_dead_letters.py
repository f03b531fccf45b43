"""Dead letters over HTTP: seen by cause, replayed with changes, exported, and what is refused by name."""

import pytest

from cli import dead_letters as letters_cli
from cli import replays as replays_cli
from schemas.ids import KeyId, TenantId
from schemas.jsons import JsonObject
from tests.support.door import MESSAGES, client_of, error_of
from tests.support.house import FakeHouse, a_letter

BODY: JsonObject = {"model": "small", "messages": MESSAGES}


async def test_dead_letters_are_listed_grouped_and_told_whole() -> None:
    house = FakeHouse()
    async with client_of(house) as client:
        job = (await client.post("/jobs", json=BODY)).json()["id"]
        house.dead_letters.letters = [a_letter(1, id=job), a_letter(2, reason="refused")]
        listed = (await client.get("/dead-letters", params={"reason": "invalid_output"})).json()["data"]
        groups = (await client.get("/dead-letters/groups")).json()["data"]
        story = (await client.get(f"/dead-letters/{job}")).json()

    assert [row["id"] for row in listed] == [job]
    assert set(letters_cli.COLUMNS) <= set(listed[0])
    assert set(letters_cli.GROUP_COLUMNS) <= set(groups[0])
    assert (listed[0]["attempts"], listed[0]["cost_usd"]) == (2, "1.000000000")
    assert (story["reason"], story["attempts"][0]["reply"]["id"]) == ("invalid_output", "chatcmpl-1")


async def test_a_tenant_sees_and_replays_its_own_dead_letters_only() -> None:
    house = FakeHouse()
    await house.keys.create(KeyId("key_1"), "pk_acme", TenantId("acme"), ["submit"])
    house.dead_letters.letters = [a_letter(1), a_letter(2, tenant_id=TenantId("acme"))]
    async with client_of(house, key="pk_acme") as client:
        seen = [row["id"] for row in (await client.get("/dead-letters")).json()["data"]]
        foreign = await client.post("/dead-letters/replay", json={"ids": ["job_1"]})
        own = await client.post("/dead-letters/replay", json={"filter": {}})

    assert seen == ["job_2"]
    assert foreign.status_code == 404
    assert own.json()["replayed"] == ["job_2"]


async def test_a_replay_may_change_the_request_its_price_and_its_deadline() -> None:
    house = FakeHouse()
    house.dead_letters.letters = [a_letter(1)]
    changed = BODY | {"messages": [{"role": "user", "content": "again"}]}
    wanted = {"ids": ["job_1", "job_9"], "body": changed, "max_cost_usd": "0.5", "deadline_seconds": 60}
    async with client_of(house) as client:
        answer = await client.post("/dead-letters/replay", json=wanted)

    patch = house.replay.stored[0].patch
    assert answer.json() == {"replayed": ["job_1"], "not_found": ["job_9"]}
    assert (patch.deadline_seconds, patch.body, patch.max_cost_nano_usd) == (60, changed, 500_000_000)


async def test_a_replay_is_begun_watched_and_cancelled_by_its_tenant_only() -> None:
    house = FakeHouse()
    house.dead_letters.letters = [a_letter(1), a_letter(2)]
    await house.keys.create(KeyId("key_1"), "pk_acme", TenantId("acme"), ["submit"])
    patch = {"model": "large", "lane": "high", "parameters": {"temperature": 0}, "message": "b", "max_cost_usd": "0.5"}
    async with client_of(house) as client:
        begun = (await client.post("/replays", json={"filter": {}, "patch": patch, "canary": 1})).json()
        shown = (await client.get(f"/replays/{begun['id']}")).json()
        theirs = await client.get(f"/replays/{begun['id']}", headers={"authorization": "Bearer pk_acme"})
        ended = [(await client.post(f"/replays/{begun['id']}/cancel")).json()["state"] for _ in range(2)]
        resumed = await client.post(f"/replays/{begun['id']}/resume")

    assert (begun["state"], begun["total"], begun["patch"]["max_cost_usd"]) == ("canary", 2, "0.500000000")
    assert (shown["jobs"], shown["refusals"][0]["why"]) == ({"queued": 1}, "no room")
    assert (theirs.status_code, ended, resumed.status_code) == (404, ["cancelled"] * 2, 400)
    assert set(replays_cli.COLUMNS) <= set(begun)


async def test_a_dry_run_tells_the_price_and_begins_nothing() -> None:
    house = FakeHouse()
    house.dead_letters.letters = [a_letter(1), a_letter(2)]
    async with client_of(house) as client:
        told = (await client.post("/replays", json={"filter": {}, "dry_run": True})).json()

    assert (told["count"], told["worst_case_usd"]) == (2, "2.000000000")
    assert house.replay.stored == []


async def test_what_is_exported_can_be_imported_and_a_bad_line_is_named() -> None:
    house = FakeHouse()
    house.dead_letters.letters = [a_letter(1), a_letter(2)]
    async with client_of(house) as client:
        exported = (await client.get("/dead-letters/export")).content
        taken = await client.post("/dead-letters/import", content=exported)
        bad = await client.post("/dead-letters/import", content=exported + b'{"id": "job_3"}\n')

    assert taken.json() == {"imported": 2, "known": 0}
    assert [letter.reason for letter in house.dead_letters.taken[:2]] == ["invalid_output"] * 2
    assert (bad.status_code, error_of(bad)["param"]) == (400, "request")
    assert "line 3" in error_of(bad)["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"filter": {}, "canary": -1}, "canary"),
        ({"filter": {}, "threshold": 2}, "threshold"),
        ({"filter": {}, "per_second": 0}, "per_second"),
        ({"filter": {"group": "a b"}}, "id"),
        ({"filter": {"since": "yesterday"}}, "filter.since"),
        ({"filter": {}, "patch": {"model": "gone"}}, "model"),
        ({"filter": {}, "patch": {"lane": "express"}}, "patch.lane"),
        ({"filter": {}, "patch": {"parameters": {"model": "small"}}}, "parameters"),
        ({"filter": {}, "patch": {"parameters": {"response_format": {}}}}, "parameters"),
        ({"filter": {}, "patch": {"contract": {"type": 1}}}, "contract"),
        ({"filter": {}, "patch": {"message": {"role": "user"}}}, "message"),
        ({"filter": {}, "patch": {"colour": "red"}}, "patch.colour"),
    ],
)
async def test_a_wrong_wish_is_named(body: JsonObject, param: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post("/replays", json=body)

    assert answer.status_code in {400, 404}
    assert error_of(answer)["param"] == param


async def test_dead_letters_are_put_aside() -> None:
    house = FakeHouse()
    house.dead_letters.letters = [a_letter(1), a_letter(2, reason="refused")]
    async with client_of(house) as client:
        answer = await client.post("/dead-letters/discard", json={"filter": {"reason": "refused"}})

    assert answer.json()["discarded"] == ["job_2"]
    assert [letter.id for letter in house.dead_letters.letters] == ["job_1"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "ids"),
        ({"ids": ["a"], "filter": {}}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": [1]}, "ids.0"),
        ({"filter": {"reason": "bored"}}, "filter.reason"),
        ({"filter": {"colour": "red"}}, "filter.colour"),
        ({"filter": {"model": "a\0"}}, "filter"),
        ({"filter": {}, "deadline_seconds": 0}, "deadline_seconds"),
        ({"filter": {}, "max_cost_usd": "1e30"}, "max_cost_usd"),
        ({"filter": {}, "body": {"model": "gone", "messages": MESSAGES}}, "model"),
        ({"ids": ["a"], "everything": True}, "everything"),
    ],
)
async def test_a_wrong_replay_is_named(body: JsonObject, param: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post("/dead-letters/replay", json=body)

    assert answer.status_code in {400, 404}
    assert error_of(answer)["param"] == param
