"""What requests take of the memory budget: refused beyond it, never all of it for one tenant, given back at the end."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Message

from api.auth import AnyCaller, Authenticator
from api.errors import Busy, install
from api.memory import EXPORT_BYTES, UPLOAD_BYTES, MemoryBudget, MemoryShare
from api.metrics import Metrics
from api.middleware import Frame
from api.native.dead_letters import export_dead_letters
from api.open_requests import OpenRequests
from config.catalogue import PrivacyTable
from schemas.ids import KeyId, TenantId
from schemas.replay import DeadLetters
from schemas.tenants import TenantShare
from storage.dead_letters.reads import MAX_LETTER_BYTES
from storage.tenancy.keys import StoredKey

GREEDY, MODEST = TenantId("greedy"), TenantId("modest")
OPERATOR_KEY = "pk_admin"


def share_of(budget: MemoryBudget, tenant_id: TenantId | None = None) -> MemoryShare:
    share = MemoryShare(budget)
    if tenant_id is not None:
        share.count_for(tenant_id)
    return share


def test_memory_that_is_not_there_is_refused_and_what_was_taken_comes_back() -> None:
    budget = MemoryBudget(100)
    first, second = share_of(budget), share_of(budget)
    first.take(80)

    with pytest.raises(Busy):
        second.take(21)
    second.take(20)
    first.release()
    first.release()

    assert budget.free_bytes == 80


def test_a_tenant_takes_as_much_as_it_leaves_free_in_however_many_requests() -> None:
    budget = MemoryBudget(100)
    shares = [share_of(budget, GREEDY) for _ in range(6)]
    for share in shares[:5]:
        share.take(10)

    with pytest.raises(Busy):
        shares[5].take(1)
    share_of(budget, MODEST).take(25)
    share_of(budget).take(25)

    shares[0].release()
    with pytest.raises(Busy):
        shares[5].take(1)
    for share in shares[1:5]:
        share.release()
    shares[5].take(20)


def test_several_greedy_tenants_leave_room_for_a_small_request() -> None:
    budget = MemoryBudget(1_000)
    for number in range(5):
        share = share_of(budget, TenantId(f"t{number}"))
        share.take(budget.free_bytes // 2)
        with pytest.raises(Busy):
            share.take(1)

    share_of(budget, MODEST).take(10)


def test_what_was_taken_before_the_tenant_was_known_counts_for_it() -> None:
    budget = MemoryBudget(100)
    early = share_of(budget)
    early.take(50)
    early.count_for(GREEDY)

    with pytest.raises(Busy):
        share_of(budget, GREEDY).take(1)
    early.release()
    share_of(budget, GREEDY).take(50)


def test_a_stream_that_needs_more_than_the_budget_has_passes_alone() -> None:
    budget = MemoryBudget(100)
    first = share_of(budget, GREEDY)
    first.take_buffers(1_000)

    with pytest.raises(Busy):
        share_of(budget, GREEDY).take_buffers(1_000)
    first.release()
    share_of(budget).take_buffers(1_000)

    assert budget.free_bytes == 0


class TenantKeys:
    """A store of keys in which the key of a tenant is its name."""

    async def find(self, secret: str) -> StoredKey | None:
        return StoredKey(
            id=KeyId("key_1"),
            tenant_id=TenantId(secret),
            prefix="pk",
            scopes=frozenset({"submit"}),
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            revoked_at=None,
        )


class Server:
    """An app behind the middleware that reads bodies, and reports after each what the budget had left."""

    def __init__(self, most_bytes: int) -> None:
        self.budget = MemoryBudget(most_bytes)
        self.free_bytes = most_bytes
        app = FastAPI()
        app.state.authenticator = Authenticator(TenantKeys(), OPERATOR_KEY)  # type: ignore[arg-type]  # asks nothing else
        app.state.services = SimpleNamespace(share=lambda tenant_id: TenantShare(tenant_id=tenant_id))
        app.state.open_requests = OpenRequests(most=1_000)
        install(app)

        async def read(request: Request, _: AnyCaller) -> Response:
            async for _part in request.stream():
                self.free_bytes = self.budget.free_bytes
            return Response()

        app.post("/v1/files")(read)
        app.post("/jobs")(read)
        self._asgi = Frame(
            app,
            metrics=Metrics(),
            cap_bytes=lambda _: 10_000_000,
            memory=self.budget,
            closed=app.state.open_requests.close,
        )

    async def post(self, path: str, body: bytes, key: str | None) -> int:
        """The status of the answer."""
        statuses = list[int]()
        messages = self._messages(body)
        authorization = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]

        async def send(message: Message) -> None:
            statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(b"transfer-encoding", b"chunked"), *authorization],
        }
        await self._asgi(scope, messages.__anext__, send)
        return statuses[0]

    async def _messages(self, body: bytes) -> AsyncIterator[Message]:
        yield {"type": "http.request", "body": body, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}


async def test_a_tenant_that_took_its_part_is_refused_and_others_are_read() -> None:
    server = Server(1_000)
    share_of(server.budget, GREEDY).take(500)

    statuses = [await server.post("/jobs", b" " * 100, key) for key in (GREEDY, MODEST, OPERATOR_KEY)]

    assert statuses == [503, 200, 200]


async def test_an_upload_takes_memory_once_its_caller_is_known() -> None:
    server = Server(10 * UPLOAD_BYTES)

    assert await server.post("/v1/files", b"x", None) == 401
    assert server.free_bytes == 10 * UPLOAD_BYTES
    assert await server.post("/v1/files", b"x", GREEDY) == 200
    assert server.free_bytes == 9 * UPLOAD_BYTES
    assert server.budget.free_bytes == 10 * UPLOAD_BYTES


async def test_uploads_of_one_tenant_leave_room_for_those_of_another() -> None:
    server = Server(10 * UPLOAD_BYTES)
    share_of(server.budget, GREEDY).take(5 * UPLOAD_BYTES)

    assert [await server.post("/v1/files", b"x", key) for key in (GREEDY, MODEST)] == [503, 200]


async def test_an_export_takes_the_memory_of_the_largest_letter_and_its_line() -> None:
    budget = MemoryBudget(3 * EXPORT_BYTES)
    share = share_of(budget, GREEDY)
    services: Any = SimpleNamespace(dead_letters=SimpleNamespace(whole=None))

    await export_dead_letters(DeadLetters(tenant_id=GREEDY), services, PrivacyTable(), share)

    assert budget.free_bytes == 2 * EXPORT_BYTES >= 2 * 3 * MAX_LETTER_BYTES
