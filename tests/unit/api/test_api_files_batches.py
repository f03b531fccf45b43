"""`/v1/files`, `/v1/batches` and `/v1/models`: what is kept, told and refused."""

import httpx2
import pytest

from schemas.jsons import JsonObject
from tests.support.door import client_of, error_of
from tests.support.house import FakeHouse

BATCH: JsonObject = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


async def stored(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", b"x\n")})
    file_id: str = answer.json()["id"]
    return file_id


async def test_a_file_goes_in_and_out_and_away() -> None:
    async with client_of(FakeHouse()) as client:
        file_id = await stored(client)
        told = (await client.get(f"/v1/files/{file_id}")).json()
        content = await client.get(f"/v1/files/{file_id}/content")
        deleted = (await client.delete(f"/v1/files/{file_id}")).json()
        gone = await client.get(f"/v1/files/{file_id}")

    assert (told["filename"], told["bytes"], told["purpose"], told["status"]) == ("in.jsonl", 2, "batch", "processed")
    assert content.content == b"x\n"
    assert (deleted, gone.status_code) == ({"id": file_id, "object": "file", "deleted": True}, 404)


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"purpose": "poetry"}, {"file": b"x"}, "purpose"),
        ({}, {"file": b"x"}, "purpose"),
        ({"purpose": "batch"}, {"other": b"x"}, "other"),
        ({"purpose": "batch", "expires_after[anchor]": "birth"}, {"file": b"x"}, "expires_after.anchor"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "5"},
            {"file": b"x"},
            "expires_after.seconds",
        ),
    ],
)
async def test_a_wrong_form_is_named_and_leaves_nothing(
    data: dict[str, str], files: dict[str, bytes], param: str
) -> None:
    house = FakeHouse()
    async with client_of(house) as client:
        answer = await client.post("/v1/files", data=data, files=files)

    assert answer.status_code == 400
    assert error_of(answer)["param"] == param
    assert not house.files.stored


async def test_a_form_that_is_none_is_refused() -> None:
    async with client_of(FakeHouse()) as client:
        answers = [
            await client.post("/v1/files", json={"purpose": "batch"}),
            await client.post("/v1/files", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"}),
            await client.post("/v1/files", content=b"x", headers={"content-type": "multipart/form-data"}),
        ]

    assert [error_of(answer)["param"] for answer in answers] == ["file"] * 3


async def test_a_file_above_the_cap_is_refused_and_leaves_nothing() -> None:
    house = FakeHouse()
    async with client_of(house, max_file_bytes=100) as client:
        answer = await client.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x" * 200})

    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"
    assert not house.files.stored


@pytest.mark.parametrize("window", ["24h", "1h", "90m", "30d"])
async def test_a_batch_is_made_listed_and_stopped(window: str) -> None:
    async with client_of(FakeHouse()) as client:
        wanted = BATCH | {"input_file_id": await stored(client), "completion_window": window}
        batch = (await client.post("/v1/batches", json=wanted | {"metadata": {"lane": "low"}})).json()
        listed = (await client.get("/v1/batches")).json()["data"]
        stopped = [(await client.post(f"/v1/batches/{batch['id']}/cancel")).json()["status"] for _ in range(2)]

    assert (batch["object"], batch["status"], batch["completion_window"]) == ("batch", "validating", window)
    assert [one["id"] for one in listed] == [batch["id"]]
    assert stopped == ["cancelling", "cancelling"]


@pytest.mark.parametrize(
    ("changed", "status", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, 400, "endpoint"),
        ({"completion_window": "1w"}, 400, "completion_window"),
        ({"completion_window": "0h"}, 400, "completion_window"),
        ({"completion_window": "31d"}, 400, "completion_window"),
        ({"completion_window": 24}, 400, "completion_window"),
        ({"input_file_id": "file-none"}, 404, "id"),
        ({"input_file_id": None}, 400, "input_file_id"),
        ({"metadata": {"lane": "express"}}, 400, "lane"),
        ({"metadata": {"a": 1}}, 400, "metadata.a"),
        ({"metadata": {"a": "x\0"}}, 400, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, 400, "metadata"),
    ],
)
async def test_a_batch_that_cannot_be_is_refused_at_once(changed: JsonObject, status: int, param: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post("/v1/batches", json=BATCH | {"input_file_id": await stored(client)} | changed)

    assert answer.status_code == status
    assert error_of(answer)["param"] == param


async def test_models_and_aliases_are_told() -> None:
    async with client_of(FakeHouse()) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        small = (await client.get("/v1/models/small")).json()
        unknown = await client.get("/v1/models/none/of/ours")

    assert {"id", "object", "created", "owned_by", "shutdown_date"} <= set(listed[0])
    assert small["penstock_chain"]
    assert unknown.status_code == 404
