"""Pause, resume, move and cancel over HTTP: for operators, by kind and name."""

from collections.abc import Iterator

import httpx2
import pytest

from cli.commands import controls as controls_cli
from schemas.jsons import JsonObject
from tests.support.web_process import MESSAGES, error_of, eventually

JOB: JsonObject = {"model": "small", "messages": MESSAGES}


@pytest.fixture
def subject(caller: httpx2.Client, operator: httpx2.Client, tenant: str) -> Iterator[JsonObject]:
    """A tenant with two queued jobs; resumed at the end, whatever was said of it."""
    for _ in range(2):
        caller.post("/jobs", json=JOB)
    yield {"kind": "tenant", "name": tenant}
    operator.post("/controls/resume", json={"kind": "tenant", "name": tenant})


def in_force(operator: httpx2.Client, subject: JsonObject) -> list[JsonObject]:
    rows: list[JsonObject] = operator.get("/controls").json()["data"]
    return [row for row in rows if row["name"] == subject["name"]]


def test_what_is_paused_is_listed_until_it_is_resumed(operator: httpx2.Client, subject: JsonObject) -> None:
    paused = operator.post("/controls/pause", json=subject).json()
    [listed] = in_force(operator, subject)
    resumed = operator.post("/controls/resume", json=subject).json()

    assert (paused["verb"], resumed["verb"]) == ("pause", "resume")
    assert listed["id"] == f"pause/tenant/{subject['name']}"
    assert set(controls_cli.COLUMNS) <= set(listed)
    assert in_force(operator, subject) == []


def test_a_move_names_its_lane_and_takes_what_waits_with_it(
    operator: httpx2.Client, caller: httpx2.Client, subject: JsonObject
) -> None:
    moved = operator.post("/controls/move", json=subject | {"lane": "low"}).json()

    jobs = eventually(lambda: caller.get("/jobs").json()["data"], lambda rows: {row["lane"] for row in rows} == {"low"})
    assert (moved["lane"], len(jobs)) == ("low", 2)


def test_a_cancellation_rests_what_waits(operator: httpx2.Client, caller: httpx2.Client, subject: JsonObject) -> None:
    cancelled = operator.post("/controls/cancel", json=subject).json()

    eventually(lambda: caller.get("/jobs").json()["data"], lambda rows: {row["state"] for row in rows} == {"cancelled"})
    assert cancelled["verb"] == "cancel"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("pause", {"kind": "planet", "name": "x"}, "kind"),
        ("pause", {"kind": "job"}, "name"),
        ("cancel", {"kind": "job", "name": ""}, "name"),
        ("move", {"kind": "batch", "name": "b"}, "lane"),
        ("move", {"kind": "batch", "name": "b", "lane": "express"}, "lane"),
        ("pause", {"kind": "batch", "name": "b", "until": "noon"}, "until"),
    ],
)
def test_a_wrong_word_is_named(operator: httpx2.Client, path: str, body: JsonObject, param: str) -> None:
    answer = operator.post(f"/controls/{path}", json=body)

    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_what_does_not_exist_cannot_be_stopped(operator: httpx2.Client, verb: str) -> None:
    assert operator.post(f"/controls/{verb}", json={"kind": "batch", "name": "nobody"}).status_code == 404


def test_the_backlog_is_the_operators(caller: httpx2.Client, tenant: str) -> None:
    answers = [
        caller.post("/controls/pause", json={"kind": "tenant", "name": tenant}),
        caller.get("/controls"),
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
