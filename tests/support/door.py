"""The HTTP door over a house, spoken to in this process: through an HTTP client, or by bare ASGI messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import orjson
from fastapi import FastAPI
from starlette.types import Message, Scope

from api.app import create_app
from config.catalogue import Catalogue
from config.settings import Settings
from schemas.jsons import JsonObject
from tests.support.house import FakeHouse

ADMIN = "pk_admin"
MESSAGES = [{"role": "user", "content": "hi"}]


def settings_of(**changes: object) -> Settings:
    """Settings of a door whose first key is `ADMIN`."""
    facts: dict[str, object] = {
        "redis_url": "redis://nowhere",
        "database_url": "postgresql://nowhere",
        "admin_key": ADMIN,
    }
    return Settings(**(facts | changes))  # type: ignore[arg-type]  # names are checked by pydantic


@asynccontextmanager
async def app_over(house: FakeHouse, **changes: object) -> AsyncIterator[FastAPI]:
    """The application with its lifespan."""
    app = create_app(settings_of(**changes), Catalogue(), house.opened)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def client_of(house: FakeHouse, key: str | None = ADMIN, **changes: object) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that opens no socket and sees what a remote one would, a bug's 500 too."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with app_over(house, **changes) as app:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://door", headers=headers) as client:
            yield client


def error_of(answer: httpx2.Response) -> JsonObject:
    """The error object, which has exactly OpenAI's four keys."""
    error: JsonObject = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return error


@dataclass
class Caller:
    """A client that leaves when `gone` is set; keeps what it was sent."""

    body: JsonObject
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Message] = field(default_factory=list)
    bodies: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    _asked: bool = False

    def scope(self, path: str = "/v1/chat/completions") -> Scope:
        headers = [(b"authorization", f"Bearer {ADMIN}".encode()), (b"content-type", b"application/json")]
        return {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
            "scheme": "http",
            "server": ("door", 80),
            "client": ("here", 1),
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": orjson.dumps(self.body), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.bodies.put_nowait(message["body"])

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None
