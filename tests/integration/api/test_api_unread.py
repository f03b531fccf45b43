"""Answers that nobody reads, and requests that are many and large: what they hold, and for how long."""

import gzip
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson
import pytest
from pydantic import SecretStr

from config.settings import Settings
from schemas.jsons import JsonObject
from tasks.release import release
from tests.integration.api.conftest import ADMIN, CATALOGUE
from tests.integration.conftest import RedisNumber
from tests.support.endless_provider import EndlessProvider, endless_provider
from tests.support.own_process import OwnProcess, WebProcess
from tests.support.raw_client import answer_head, connected, request, until_closed
from tests.support.web_process import MESSAGES, a_batch_file, eventually

WRITE_SECONDS = 2
SMALL_BUFFER_BYTES = 4_096
FILE_BYTES = 20_000_000
MOST_GROWTH_BYTES = 256_000_000
STREAMS = 10
CALLS = 16
CALL: JsonObject = {"model": "small", "messages": MESSAGES}
EVENT = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x" * 10_000}, "finish_reason": None}]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A door with a short write time-out, and a provider whose answers do not end."""

    api: WebProcess
    provider: EndlessProvider

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.api.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60)

    def forget_peak(self) -> int:
        """What the process has in memory; from here on its peak is measured anew."""
        Path(f"/proc/{self.api.pid}/clear_refs").write_text("5")
        return self._memory_bytes("VmRSS")

    def peak_bytes(self) -> int:
        return self._memory_bytes("VmHWM")

    def _memory_bytes(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.api.pid}/status").read_text())
        assert found
        return int(found[1]) * 1_024


@pytest.fixture(scope="module")
def site(redis_url: str, fresh_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    config = tmp_path_factory.mktemp("config") / "penstock.toml"
    config.write_text(CATALOGUE)
    stores = {"redis_url": RedisNumber.UNREAD.of(redis_url), "database_url": fresh_database_url}
    with endless_provider() as provider:
        env = {f"PENSTOCK_{name.upper()}": url for name, url in stores.items()} | {
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_ADMIN_KEY": ADMIN,
            "PENSTOCK_WRITE_TIMEOUT_SECONDS": str(WRITE_SECONDS),
            "OPENAI_API_KEY": "sk-none",
            "OPENAI_BASE_URL": provider.base_url,
        }
        release(Settings(config=config, **{name: SecretStr(url) for name, url in stores.items()}))
        with OwnProcess("workers.upkeep", env), WebProcess(env) as api:
            api.until("/readyz", 200)
            yield Site(api=api, provider=provider)


def test_streams_that_nobody_reads_end_with_their_calls(site: Site) -> None:
    site.provider.says(b"content-type: text/event-stream", b"data: " + orjson.dumps(EVENT) + b"\n\n")
    call = orjson.dumps(CALL | {"stream": True, "user": "unread"})
    head = request("POST", "/v1/chat/completions", f"content-length: {len(call)}", key=ADMIN)
    before_bytes = site.forget_peak()

    with ExitStack() as stack:
        for _ in range(STREAMS):
            client = stack.enter_context(connected(site.api.port, receive_buffer_bytes=SMALL_BUFFER_BYTES))
            client.sendall(head + call)
            assert answer_head(client).startswith(b"HTTP/1.1 200 ")
        eventually(lambda: site.provider.answers, lambda count: count == STREAMS)
        eventually(lambda: site.provider.open, lambda count: count == 0)

    assert site.peak_bytes() - before_bytes < MOST_GROWTH_BYTES // 4
    with site.client() as operator:
        jobs = eventually(lambda: operator.get("/jobs").json()["data"], all_ended)
    assert [job["state"] for job in jobs] == ["cancelled"] * STREAMS


@pytest.mark.parametrize(
    ("headers", "piece"),
    [
        (b"content-type: application/json", b" " * 65_536),
        pytest.param(
            b"content-type: application/json\r\ncontent-encoding: gzip",
            gzip.compress(b" " * 50_000_000),
            marks=pytest.mark.slow,
        ),
        pytest.param(b"content-type: text/event-stream", b"data: \n" * 9_000, marks=pytest.mark.slow),
    ],
)
def test_an_endless_answer_is_read_up_to_its_cap(site: Site, headers: bytes, piece: bytes) -> None:
    site.provider.says(headers, piece)
    before_bytes = site.forget_peak()
    call = CALL | {"stream": b"event-stream" in headers}

    with site.client() as caller, ThreadPoolExecutor(CALLS) as pool:
        answers = list(pool.map(lambda _: caller.post("/v1/chat/completions", json=call), range(CALLS)))

    assert {answer.status_code for answer in answers} == {504}
    assert site.peak_bytes() - before_bytes < MOST_GROWTH_BYTES
    eventually(lambda: site.provider.open, lambda count: count == 0)


def test_downloads_that_nobody_reads_are_ended(site: Site) -> None:
    with site.client() as caller, ExitStack() as stack:
        file_id = a_batch_file(caller, b"x\n" * (FILE_BYTES // 2))
        before_bytes = site.forget_peak()
        unread = [
            stack.enter_context(connected(site.api.port, receive_buffer_bytes=SMALL_BUFFER_BYTES)) for _ in range(30)
        ]
        for client in unread:
            client.sendall(request("GET", f"/v1/files/{file_id}/content", key=ADMIN))
            assert answer_head(client).startswith(b"HTTP/1.1 200 ")
        assert caller.get("/jobs").status_code == 200
        eventually(lambda: site.api.established, lambda count: count <= 1)

        assert max(len(until_closed(client)) for client in unread) < FILE_BYTES // 10
        assert site.peak_bytes() - before_bytes < MOST_GROWTH_BYTES
        assert len(caller.get(f"/v1/files/{file_id}/content").content) == FILE_BYTES


@pytest.mark.parametrize("value", [b"[]", b'""'])
def test_forty_large_bodies_of_tiny_values_take_little_memory(site: Site, value: bytes) -> None:
    content = b'{"model":"small","x":[' + b",".join([value] * (3_900_000 // (len(value) + 1))) + b"]}"
    before_bytes = site.forget_peak()

    with site.client() as caller, ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: caller.post("/v1/chat/completions", content=content), range(40)))

    assert {answer.status_code for answer in answers} <= {400, 503}
    assert site.peak_bytes() - before_bytes < MOST_GROWTH_BYTES


def all_ended(jobs: list[dict[str, str]]) -> bool:
    return len(jobs) == STREAMS and all(job["state"] not in {"queued", "running"} for job in jobs)
