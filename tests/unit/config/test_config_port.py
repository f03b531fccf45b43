"""Where the door listens, and how a wrong port is told."""

import pytest

from config.settings import SettingError, load_settings


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_PORT", "PORT", "PENSTOCK_ENV", "PENSTOCK_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://x")
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", "postgresql://x")


@pytest.mark.parametrize(("env", "port"), [({}, 8080), ({"PORT": "9"}, 9), ({"PORT": "9", "PENSTOCK_PORT": "7"}, 7)])
def test_our_name_goes_before_the_platform_s(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], port: int) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    assert load_settings().port == port


@pytest.mark.parametrize("name", ["PENSTOCK_PORT", "PORT"])
def test_a_wrong_port_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "many")

    with pytest.raises(SettingError, match=r"^PENSTOCK_PORT \(or PORT\): "):
        load_settings()


def test_only_development_keeps_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().listen_host == "127.0.0.1"
    monkeypatch.setenv("PENSTOCK_ENV", "production")
    assert load_settings().listen_host == "0.0.0.0"  # noqa: S104 - what is claimed
    monkeypatch.setenv("PENSTOCK_HOST", "10.0.0.1")
    assert load_settings().listen_host == "10.0.0.1"
