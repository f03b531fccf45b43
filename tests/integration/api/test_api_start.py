"""How the web process starts and ends: with its stores away, with a wrong setting, and when it is told to stop."""

from pathlib import Path

import httpx2
import pytest

from tests.support.own_process import OwnProcess, WebProcess
from tests.support.web_process import error_of

AWAY = {
    "PENSTOCK_REDIS_URL": "redis://:hidden@127.0.0.1:1/0",
    "PENSTOCK_DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/none",
    "PENSTOCK_ADMIN_KEY": "pk_admin",
    "OPENAI_API_KEY": "sk-none",
}
KEY = {"authorization": "Bearer pk_admin"}


def test_a_door_whose_stores_are_away_starts_says_so_and_stops_when_told() -> None:
    with WebProcess(AWAY) as api:
        api.until("/healthz", 200)
        told = api.until("/readyz", 503)
        code = api.stop()
        said = api.said()

    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert all(told["checks"][part] for part in ("postgres", "redis"))
    assert "127.0.0.1:1" not in str(told)
    assert "hidden" not in said.replace("[hidden]", "")
    assert code == 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"PENSTOCK_PORT": "many"}, "PENSTOCK_PORT"),
        ({"PENSTOCK_ENV": "moon"}, "PENSTOCK_ENV"),
        ({"PENSTOCK_CONFIG": "{folder}/broken.toml"}, "broken.toml"),
    ],
)
def test_a_wrong_setting_ends_with_one_line_and_its_exit_code(
    changed: dict[str, str], named: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_text("= what")
    env = {name: value.format(folder=tmp_path) for name, value in (AWAY | changed).items()}

    with OwnProcess("api", env) as process:
        code = process.wait()
        said = process.said()

    assert code == 6
    assert named in said
    assert len(said.splitlines()) == 1


def test_every_door_answers_503_while_postgres_is_away() -> None:
    job = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    batch = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with WebProcess(AWAY) as api, httpx2.Client(base_url=api.url, headers=KEY, timeout=30) as client:
        api.until("/healthz", 200)
        answers = [
            client.post("/v1/chat/completions", json=job),
            client.post("/v1/chat/completions", json=job | {"stream": True}),
            client.post("/jobs", json=job),
            client.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x"}),
            client.post("/v1/batches", json=batch),
            client.get("/jobs"),
            client.get("/dead-letters"),
            client.get("/keys"),
            client.get("/jobs", headers={"authorization": "Bearer pk_other"}),
        ]
        metrics = client.get("/metrics")

    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [(503, "5")] * 9
    assert {error_of(answer)["code"] for answer in answers} == {"unavailable"}
    assert metrics.status_code == 200
    assert 'penstock_part_ready{part="postgres"} 0.0' in metrics.text


def test_without_redis_jobs_are_accepted_and_calls_are_not(fresh_database_url: str) -> None:
    job = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "lane": "high"}
    env = AWAY | {"PENSTOCK_DATABASE_URL": fresh_database_url}
    with WebProcess(env) as api, httpx2.Client(base_url=api.url, headers=KEY, timeout=30) as client:
        api.until("/healthz", 200)
        accepted = client.post("/jobs", json=job)
        call = client.post("/v1/chat/completions", json=job)
        streamed = client.post("/v1/chat/completions", json=job | {"stream": True})
        limits = client.get("/limits")
        story = client.get(f"/jobs/{accepted.json()['id']}")

    assert (accepted.status_code, story.json()["state"]) == (200, "queued")
    assert [(one.status_code, one.headers["retry-after"]) for one in (call, streamed, limits)] == [(503, "5")] * 3
    assert "Redis" in error_of(call)["message"]
