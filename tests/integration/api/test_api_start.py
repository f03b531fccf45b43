"""How the web process starts and ends: with its stores away, with a wrong setting, and when it is told to stop."""

from pathlib import Path

import pytest

from tests.support.own_process import DoorProcess, OwnProcess

AWAY = {
    "PENSTOCK_REDIS_URL": "redis://:hidden@127.0.0.1:1/0",
    "PENSTOCK_DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/none",
    "PENSTOCK_ADMIN_KEY": "pk_admin",
    "OPENAI_API_KEY": "sk-none",
}


def test_a_door_whose_stores_are_away_starts_says_so_and_stops_when_told() -> None:
    with DoorProcess(AWAY) as door:
        door.until("/healthz", 200)
        told = door.until("/readyz", 503)
        code = door.stop()
        said = door.said()

    assert set(told["error"]) == {"message", "type", "param", "code"}
    assert all(told["checks"][part] for part in ("postgres", "redis"))
    assert "127.0.0.1:1" not in str(told)
    assert "hidden" not in said.replace("[hidden]", "")
    assert code == 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"PENSTOCK_PORT": "many"}, "PENSTOCK_PORT"),
        ({"PENSTOCK_ENV": "moon"}, "PENSTOCK_ENV"),
        ({"PENSTOCK_CONFIG": "{folder}/broken.toml"}, "broken.toml"),
    ],
)
def test_a_wrong_setting_ends_with_one_line_and_its_exit_code(
    changed: dict[str, str], named: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_text("= what")
    env = {name: value.format(folder=tmp_path) for name, value in (AWAY | changed).items()}

    with OwnProcess("api", env) as process:
        code = process.wait()
        said = process.said()

    assert code == 6
    assert named in said
    assert len(said.splitlines()) == 1
