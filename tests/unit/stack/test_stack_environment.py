"""Keys reach the processes that use them, and no others."""

import pytest

from config.environment import PYTHON_NEEDS
from stack.environment import environment_of

WORK = {
    "PATH": "/bin",
    "PENSTOCK_REDIS_URL": "redis://",
    "PENSTOCK_DATABASE_URL": "postgresql://",
    "PENSTOCK_FLOWER_PORT": "5555",
    "FLOWER_BASIC_AUTH": "a:b",
    "LC_ALL": "C",
}
PROVIDER = {"OPENAI_API_KEY": "sk", "OTHER_VENDOR": "sk", "AWS_SECRET_ACCESS_KEY": "s", "PENSTOCK_WEBHOOK_SECRET": "w"}
DOOR = {"PENSTOCK_ADMIN_KEY": "pk", "PENSTOCK_METRICS_KEY": "m"}
ALL = WORK | PROVIDER | DOOR


def test_web_has_everything() -> None:
    assert environment_of("web", ALL) == ALL


@pytest.mark.parametrize("process", ["release", "interactive", "standard-1", "bulk", "upkeep"])
def test_whoever_calls_providers_has_their_keys_and_not_the_doors(process: str) -> None:
    assert environment_of(process, ALL) == WORK | PROVIDER


@pytest.mark.parametrize("process", ["flower", "simulator"])
def test_a_process_with_a_list_has_what_its_python_needs(process: str) -> None:
    needed = dict.fromkeys(PYTHON_NEEDS, "x")

    assert environment_of(process, PROVIDER | needed) == needed


def test_flower_has_its_broker_and_no_key() -> None:
    assert environment_of("flower", ALL) == WORK


def test_the_simulator_has_no_key_and_no_address() -> None:
    assert environment_of("simulator", ALL | {"SIMULATOR_SEED": "1"}) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "SIMULATOR_SEED": "1",
    }
