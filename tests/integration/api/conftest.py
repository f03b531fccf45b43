"""The real door over real stores and a simulated provider: one for all tests of this folder, a tenant for each test."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import pytest
from pydantic import SecretStr

from config.settings import Settings
from tasks.release import release
from tests.integration.conftest import RedisNumber, fresh_database
from tests.support.own_process import OwnProcess, WebProcess
from tests.support.simulator_process import SimulatorProcess

ADMIN, SCRAPE = "pk_admin", "scrape-me"
MOST_BODY_BYTES = 300_000
MOST_FILE_BYTES = 3_000_000
ANSWER_SECONDS = 30.0

CATALOGUE = """
[models."gpt-4.1-mini"]
requests_per_minute = 6000
price = {input = 1.0, output = 2.0}

[models."gpt-4.1"]
price = {input = 1000000.0, output = 1000000.0}

[aliases]
small = ["gpt-4.1-mini"]
dear = ["gpt-4.1"]

[[budgets]]
scope = "global"
window = "month"
limit_usd = 1000
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Premises:
    """A running door and what stands behind it."""

    api: WebProcess
    provider: SimulatorProcess
    env: Mapping[str, str]

    @property
    def base_url(self) -> str:
        return f"{self.api.url}/v1"

    def client(self, key: str | None = ADMIN) -> httpx2.Client:
        """A client of the door that holds this key."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.api.url, headers=headers, timeout=ANSWER_SECONDS)

    @contextmanager
    def trouble(self, **shares: float) -> Iterator[None]:
        """A provider that does these things wrong, until the end of the block."""
        self.provider.set_scenarios(shares)
        try:
            yield
        finally:
            self.provider.set_scenarios({})


@pytest.fixture(scope="package")
def premises(redis_url: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    config = tmp_path_factory.mktemp("config") / "penstock.toml"
    config.write_text(CATALOGUE)
    own_redis_url = RedisNumber.DOOR.of(redis_url)
    with SimulatorProcess.start() as provider, fresh_database(database_url) as own_database_url:
        env = {
            "PENSTOCK_REDIS_URL": own_redis_url,
            "PENSTOCK_DATABASE_URL": own_database_url,
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_ADMIN_KEY": ADMIN,
            "PENSTOCK_METRICS_KEY": SCRAPE,
            "PENSTOCK_MAX_LINE_BYTES": "100000",
            "PENSTOCK_MAX_BODY_BYTES": str(MOST_BODY_BYTES),
            "PENSTOCK_MAX_FILE_BYTES": str(MOST_FILE_BYTES),
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": provider.base_url,
        }
        release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(own_database_url), config=config))
        with OwnProcess("workers.upkeep", env), WebProcess(env) as api:
            api.until("/readyz", 200)
            yield Premises(api=api, provider=provider, env=env)


@pytest.fixture
def tenant() -> str:
    """A name that no other test uses."""
    return f"tenant-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def operator(premises: Premises) -> Iterator[httpx2.Client]:
    with premises.client() as client:
        yield client


def new_key(operator: httpx2.Client, tenant_id: str) -> str:
    """A key of this tenant that may submit and read its own."""
    made: str = operator.post("/keys", json={"tenant_id": tenant_id, "scopes": ["submit"]}).json()["key"]
    return made


@pytest.fixture
def key(operator: httpx2.Client, tenant: str) -> str:
    """A key of this test's tenant that may submit and read its own."""
    return new_key(operator, tenant)


@pytest.fixture
def caller(premises: Premises, key: str) -> Iterator[httpx2.Client]:
    """Whoever holds that key."""
    with premises.client(key) as client:
        yield client


@pytest.fixture
def stranger(premises: Premises) -> Iterator[httpx2.Client]:
    """Whoever holds no key."""
    with premises.client(None) as client:
        yield client
