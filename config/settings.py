"""The settings of a process, each with its unit and reason.

`load_settings` reads them once, at the edge of the process. An error names the environment variable and what to change.
"""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingError(Exception):
    """A setting is missing or wrong; the message names it and says what to change."""


class Settings(BaseSettings):
    """All settings; each environment variable is `PENSTOCK_` and the name."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", frozen=True, extra="ignore", populate_by_name=True)

    redis_url: SecretStr
    database_url: SecretStr
    config: Path = Path("penstock.toml")
    env: Literal["development", "staging", "production"] = "development"
    home: Path = Path(".penstock")
    admin_key: SecretStr | None = None
    metrics_key: SecretStr | None = None
    """Key for scraping `/metrics` only. None: only operators' keys read it."""
    host: str | None = None
    """Listening address. None: loopback in development, else every interface."""
    port: int = Field(default=8080, ge=1, le=65535, validation_alias=AliasChoices("PENSTOCK_PORT", "PORT"))
    """`PORT` is what platforms set."""
    metrics_port: int = Field(default=0, ge=0, le=65535, description="0: no metrics server in a worker")

    slots: int = Field(default=500, ge=1, le=5_000)
    """Jobs in flight per worker process: two of 500 to 1,000 fill two cores."""
    reserved_critical_slots: int = Field(default=32, ge=0)
    """Slots for critical jobs only, so that none waits for a long call."""
    slice_size: int = Field(default=32, ge=1, le=500)
    """Jobs per message on deep flows: larger slices save no more."""
    lease_seconds: float = Field(default=15, gt=0)
    """Time until a dead worker's job is rescued; longer than any pause of a live process."""
    heartbeat_seconds: float = Field(default=4, gt=0)
    """Less than a third of the lease: two may be missed."""
    hold_seconds: float = Field(default=2, ge=0)
    """How long a job waits for admission in its slot; then it waits in Postgres."""
    connect_timeout_seconds: float = Field(default=5, gt=0)
    first_byte_timeout_seconds: float = Field(default=120, gt=0)
    """An answer that is not streamed sends its first byte when finished."""
    between_chunks_timeout_seconds: float = Field(default=30, gt=0)
    total_timeout_seconds: float = Field(default=600, gt=0)
    drain_grace_seconds: float = Field(default=25, ge=0)
    """Below the 30 s of most platforms between SIGTERM and SIGKILL."""
    watchdog_seconds: int = Field(default=10, ge=0, le=600)
    """How long an event loop may block before SIGALRM ends its process; 0: no limit. Below the lease, so that the
    process is replaced before its jobs are rescued."""
    max_file_bytes: int = Field(default=200_000_000, ge=1)
    """OpenAI's cap of a batch file."""
    max_line_bytes: int = Field(default=1_000_000, ge=1)
    max_body_bytes: int = Field(default=4_000_000, ge=1)
    """A request over HTTP."""
    max_bytes_in_flight: int = Field(default=200_000_000, ge=1_000_000)
    """Memory of all parsed bodies in a web process; beyond, 503. A tenant may take as much as it leaves free."""
    max_reply_bytes: int = Field(default=16_000_000, ge=10_000)
    """Decompressed bytes of an answer; text has half a megabyte at most, images a few."""
    max_connections: int | None = Field(default=None, ge=1)
    """Connections of a web process. None: what its descriptors allow, at most 10,000."""
    head_timeout_seconds: float = Field(default=10, gt=0)
    """From a connection's start, or a request's first byte, to the end of its head."""
    body_timeout_seconds: float = Field(default=20, gt=0)
    """The longest gap in a body, and the grace before `min_body_bytes_per_second` holds."""
    min_body_bytes_per_second: int = Field(default=1_000, ge=1)
    """Average, slower than any link that carries a batch file."""
    idle_timeout_seconds: float = Field(default=75, gt=0)
    """Longer than proxies' 60 s, so that they close first and never use a closed one."""
    write_timeout_seconds: float = Field(default=30, gt=0)
    """How long a client may read nothing before its connection and call end."""
    run_ahead_jobs: int = Field(default=1_200, ge=1)
    """Prefetch window: published, unclaimed jobs per flow, about two seconds of two full workers."""

    @property
    def call_places(self) -> int:
        """Calls in flight per process: one per slot and a quarter more, a tenth for tenants with few calls."""
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
    details = dict(part)  # type: ignore[call-overload]  # a TypedDict of pydantic's
    name = "_".join(str(step) for step in details["loc"]).upper()
    name = SPELLINGS.get(name, f"PENSTOCK_{name}" if name else "")
    return f"{name}: {details['msg']}" if name else str(details["msg"]).removeprefix("Value error, ")
