"""One provider and one whole running stack for all acceptance tests; each test brings its own tenant or batch."""

from collections.abc import Iterator

import pytest

from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import CONFIG, StackProcess

WITH_A_FAMILY = f"""{CONFIG}
[models."gpt-5-mini"]
requests_per_minute = 600000
tokens_per_minute = 2000000000
family = "shared"
"""


@pytest.fixture(scope="package")
def provider() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start(requests_per_minute=0, tokens_per_minute=0) as running:
        yield running


@pytest.fixture(scope="package")
def stack(provider: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    with StackProcess.started(
        tmp_path_factory.mktemp("stack") / "home", provider=provider, config=WITH_A_FAMILY
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def faultless(provider: SimulatorProcess) -> None:
    """Every test starts with a provider in good health and an empty meter."""
    provider.set_scenarios({})
    provider.reset_meter()
