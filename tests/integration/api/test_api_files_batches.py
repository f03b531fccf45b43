"""`/v1/files`, `/v1/batches` and `/v1/models`: what is kept, told and refused."""

import httpx2
import pytest

from schemas.jsons import JsonObject
from tests.integration.api.conftest import MOST_FILE_BYTES
from tests.support.web_process import a_batch_file, error_of, eventually

BATCH: JsonObject = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


def test_a_file_goes_in_and_out_and_away(caller: httpx2.Client) -> None:
    file_id = a_batch_file(caller, b"x\n")
    told = caller.get(f"/v1/files/{file_id}").json()
    content = caller.get(f"/v1/files/{file_id}/content")
    deleted = caller.delete(f"/v1/files/{file_id}").json()
    gone = caller.get(f"/v1/files/{file_id}")

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
def test_a_wrong_form_is_named_and_leaves_nothing(
    caller: httpx2.Client, data: dict[str, str], files: dict[str, bytes], param: str
) -> None:
    answer = caller.post("/v1/files", data=data, files=files)

    assert answer.status_code == 400
    assert error_of(answer)["param"] == param
    assert caller.get("/v1/files").json()["data"] == []


def test_a_form_that_is_none_is_refused(caller: httpx2.Client) -> None:
    answers = [
        caller.post("/v1/files", json={"purpose": "batch"}),
        caller.post("/v1/files", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"}),
        caller.post("/v1/files", content=b"x", headers={"content-type": "multipart/form-data"}),
    ]

    assert [error_of(answer)["param"] for answer in answers] == ["file"] * 3


def test_a_file_above_the_cap_is_refused_and_leaves_nothing(caller: httpx2.Client) -> None:
    answer = caller.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x" * (MOST_FILE_BYTES + 1)})

    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"
    assert caller.get("/v1/files").json()["data"] == []


@pytest.mark.parametrize("window", ["24h", "1h", "90m", "30d"])
def test_a_batch_is_made_listed_and_stopped(caller: httpx2.Client, window: str) -> None:
    wanted = BATCH | {"input_file_id": a_batch_file(caller), "completion_window": window}

    batch = caller.post("/v1/batches", json=wanted | {"metadata": {"lane": "low"}}).json()
    listed = caller.get("/v1/batches").json()["data"]
    stopped = [caller.post(f"/v1/batches/{batch['id']}/cancel").json()["status"] for _ in range(2)]

    assert (batch["object"], batch["status"], batch["completion_window"]) == ("batch", "validating", window)
    assert [one["id"] for one in listed] == [batch["id"]]
    assert set(stopped) <= {"cancelling", "cancelled"}


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
        ({"metadata": {"a": "x\0"}}, 400, "metadata.a"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, 400, "metadata"),
        ({"metadata": {"canary": "0"}}, 400, "metadata.canary"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_at_once(
    caller: httpx2.Client, changed: JsonObject, status: int, param: str
) -> None:
    answer = caller.post("/v1/batches", json=BATCH | {"input_file_id": a_batch_file(caller)} | changed)

    assert answer.status_code == status
    assert error_of(answer)["param"] == param


def test_a_batch_is_created_under_its_terms_and_let_go_on(caller: httpx2.Client) -> None:
    body = BATCH | {"input_file_id": a_batch_file(caller)}
    metadata = {"max_cost_usd": "1.5", "max_error_rate": "0.1", "canary": "20"}

    batch = caller.post("/v1/batches", json=body | {"metadata": metadata}).json()
    plain = caller.post("/v1/batches", json=body).json()
    eventually(lambda: caller.get(f"/v1/batches/{batch['id']}").json(), lambda now: now["status"] == "in_progress")
    goes_on = caller.post(f"/v1/batches/{batch['id']}/proceed").json()
    again = caller.post(f"/v1/batches/{batch['id']}/proceed")
    nothing = caller.post(f"/v1/batches/{plain['id']}/proceed")

    assert batch["stop_loss"]["max_cost_usd"] == "1.500000000"
    assert batch["stop_loss"]["phase"] == "canary"
    assert goes_on["stop_loss"]["phase"] in {"releasing", "watched"}
    assert "stop_loss" not in plain
    assert again.status_code == 200
    assert error_of(nothing)["param"] == "id"


def test_the_summary_of_a_batch_that_does_not_exist_is_not_found(caller: httpx2.Client) -> None:
    assert caller.get("/jobs/summary", params={"batch_id": "batch_9"}).status_code == 404


def test_models_and_aliases_are_told(caller: httpx2.Client) -> None:
    listed = caller.get("/v1/models").json()["data"]
    small = caller.get("/v1/models/small").json()
    unknown = caller.get("/v1/models/none/of/ours")

    assert {"id", "object", "created", "owned_by", "shutdown_date"} <= set(listed[0])
    assert small["penstock_chain"]
    assert unknown.status_code == 404
