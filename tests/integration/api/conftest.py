"""The real door over real stores and a simulated provider: one for all tests of this folder."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from config.settings import Settings
from tasks.release import release
from tests.support.own_process import DoorProcess, OwnProcess
from tests.support.simulator_process import SimulatorProcess

ADMIN = "pk_admin"
OWN_DATABASE = "9"
"""A number of Redis' own, because other tests count in its first one."""

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

    door: DoorProcess
    provider: SimulatorProcess

    @property
    def base_url(self) -> str:
        return f"{self.door.url}/v1"


@pytest.fixture(scope="module")
def premises(redis_url: str, fresh_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    config = tmp_path_factory.mktemp("config") / "penstock.toml"
    config.write_text(CATALOGUE)
    own_redis_url = f"{redis_url.rpartition('/')[0]}/{OWN_DATABASE}"
    with SimulatorProcess.start() as provider:
        env = {
            "PENSTOCK_REDIS_URL": own_redis_url,
            "PENSTOCK_DATABASE_URL": fresh_database_url,
            "PENSTOCK_CONFIG": str(config),
            "PENSTOCK_ADMIN_KEY": ADMIN,
            "PENSTOCK_MAX_LINE_BYTES": "100000",
            "OPENAI_API_KEY": "sk-simulated",
            "OPENAI_BASE_URL": provider.base_url,
        }
        release(Settings(redis_url=SecretStr(own_redis_url), database_url=SecretStr(fresh_database_url), config=config))
        with OwnProcess("workers.upkeep", env), DoorProcess(env) as door:
            door.until("/readyz", 200)
            yield Premises(door=door, provider=provider)
