"""The settings of a process, each with its unit and the reason for its default.

`load_settings` reads them once into one frozen object, at the edge of a process, from where it is passed down. A wrong
setting refuses to start, and the error names its environment variable and what to change.
"""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingError(Exception):
    """A setting is missing or wrong; the message names it and says what to change."""


class Settings(BaseSettings):
    """All settings of a process. Each environment variable is `PENSTOCK_` and the name."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", frozen=True, extra="ignore", populate_by_name=True)

    redis_url: SecretStr
    database_url: SecretStr
    config: Path = Path("penstock.toml")
    env: Literal["development", "staging", "production"] = "development"
    home: Path = Path(".penstock")
    admin_key: SecretStr | None = None
    metrics_key: SecretStr | None = None
    """The key with which a scraper reads `/metrics`, and nothing else. None: only operators' keys read it."""
    host: str | None = None
    """Address on which the web process listens. None: loopback in development, every interface elsewhere."""
    port: int = Field(default=8080, ge=1, le=65535, validation_alias=AliasChoices("PENSTOCK_PORT", "PORT"))
    """`PORT` is what platforms set."""
    metrics_port: int = Field(default=0, ge=0, le=65535, description="0: no metrics server in a worker")

    slots: int = Field(default=500, ge=1, le=5_000)
    """Jobs in flight per worker process: two processes of 500 to 1,000 fill a machine of two cores."""
    reserved_critical_slots: int = Field(default=32, ge=0)
    """Slots that only critical jobs may take, so that none waits for a long call to end."""
    slice_size: int = Field(default=32, ge=1, le=500)
    """Jobs per message on deep flows: beyond this the cost of Celery per job no longer falls."""
    lease_seconds: float = Field(default=15, gt=0)
    """Time after which a dead worker's job can be rescued; longer than any pause of a live process."""
    heartbeat_seconds: float = Field(default=4, gt=0)
    """Less than a third of the lease: two heartbeats may be missed."""
    hold_seconds: float = Field(default=2, ge=0)
    """How long a job waits for admission in its slot; beyond, it waits in Postgres."""
    connect_timeout_seconds: float = Field(default=5, gt=0)
    first_byte_timeout_seconds: float = Field(default=120, gt=0)
    """A long answer that is not streamed sends its first byte when it is finished."""
    between_chunks_timeout_seconds: float = Field(default=30, gt=0)
    total_timeout_seconds: float = Field(default=600, gt=0)
    drain_grace_seconds: float = Field(default=25, ge=0)
    """Below the 30 s that most platforms wait between SIGTERM and SIGKILL."""
    watchdog_seconds: int = Field(default=10, ge=0, le=600)
    """How long an event loop may block before SIGALRM ends its process; 0: no limit. Below the lease, so that the
    process is replaced, and its last job is recorded, before its jobs are rescued."""
    max_file_bytes: int = Field(default=200_000_000, ge=1)
    """OpenAI's cap of a batch file."""
    max_line_bytes: int = Field(default=1_000_000, ge=1)
    max_body_bytes: int = Field(default=4_000_000, ge=1)
    """A single request over HTTP."""
    max_bytes_in_flight: int = Field(default=200_000_000, ge=1_000_000)
    """Memory of the parsed bodies of all requests in a web process; beyond, 503. Some 20 of the largest.

    A tenant may take as much as it leaves free: at most a half.
    """
    max_reply_bytes: int = Field(default=16_000_000, ge=10_000)
    """Bytes read of a provider's answer, decompressed; the largest text answers have half a megabyte, images a few."""
    max_connections: int | None = Field(default=None, ge=1)
    """Connections of a web process. None: what its descriptors allow with one call per connection, at most 10,000."""
    head_timeout_seconds: float = Field(default=10, gt=0)
    """From a connection's start, or a request's first byte, to the end of its head, which any real client sends in one
    packet."""
    body_timeout_seconds: float = Field(default=20, gt=0)
    """The longest gap in a body, and the grace before `min_body_bytes_per_second` holds: a mobile network's pause."""
    min_body_bytes_per_second: int = Field(default=1_000, ge=1)
    """Average, slower than any link over which a batch file would be sent."""
    idle_timeout_seconds: float = Field(default=75, gt=0)
    """Longer than proxies keep idle connections (60 s), so that they close first and never use a closed one."""
    write_timeout_seconds: float = Field(default=30, gt=0)
    """How long a client may read nothing of an answer before its connection and its call end."""
    run_ahead_jobs: int = Field(default=1_200, ge=1)
    """The prefetch window: published and unclaimed jobs per flow, about two seconds of work of two full worker
    processes."""

    @property
    def call_places(self) -> int:
        """Calls that one process may have at providers at once: one per slot, and a quarter more.

        A tenth of them is kept for tenants with few calls, so that a tenant alone has more than there are slots.
        """
        return self.slots + math.ceil(self.slots / 4)

    @property
    def listen_host(self) -> str:
        """The address that the web process binds."""
        everywhere = "0.0.0.0"  # noqa: S104 - a container's port is published by its platform, which guards it
        return self.host or ("127.0.0.1" if self.env == "development" else everywhere)

    @model_validator(mode="after")
    def _relations_hold(self) -> Self:
        if self.heartbeat_seconds * 2 >= self.lease_seconds:
            raise ValueError("PENSTOCK_HEARTBEAT_SECONDS must be less than half of PENSTOCK_LEASE_SECONDS")
        if self.watchdog_seconds == 1:
            raise ValueError("PENSTOCK_WATCHDOG_SECONDS must be 0 or at least 2")
        if self.reserved_critical_slots >= self.slots:
            raise ValueError("PENSTOCK_RESERVED_CRITICAL_SLOTS must be less than PENSTOCK_SLOTS")
        if self.slice_size > self.slots - self.reserved_critical_slots:
            raise ValueError("PENSTOCK_SLICE_SIZE must fit into the slots that are not reserved for critical")
        return self


SPELLINGS = {"PENSTOCK_PORT": "PENSTOCK_PORT (or PORT)"}
"""Settings with more than one name."""


def load_settings() -> Settings:
    """Read the environment. Raises SettingError with one line per wrong setting."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment fills them
    except ValidationError as error:
        raise SettingError("\n".join(_line(part) for part in error.errors(include_input=False))) from None


def _line(part: object) -> str:
    found = dict(part)  # type: ignore[call-overload]  # a TypedDict of pydantic's
    name = "_".join(str(step) for step in found["loc"]).upper()
    name = SPELLINGS.get(name, f"PENSTOCK_{name}" if name else "")
    return f"{name}: {found['msg']}" if name else str(found["msg"]).removeprefix("Value error, ")
