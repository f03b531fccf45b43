import pytest

from schemas.errors import InvalidSetting
from workers.flower_auth import require_password

WORDS = ["-A", "workers.app", "flower", "--port=5555"]


def test_development_needs_no_password() -> None:
    require_password("development", {}, WORDS)


@pytest.mark.parametrize("env", ["staging", "production"])
def test_outside_development_a_password_is_required(env: str) -> None:
    with pytest.raises(InvalidSetting, match="FLOWER_BASIC_AUTH=user:password must be set"):
        require_password(env, {}, WORDS)  # type: ignore[arg-type]  # parametrised

    require_password(env, {"FLOWER_BASIC_AUTH": "me:secret"}, WORDS)  # type: ignore[arg-type]
    require_password(env, {}, [*WORDS, "--basic-auth=me:secret"])  # type: ignore[arg-type]


def test_an_open_api_is_for_development() -> None:
    environ = {"FLOWER_BASIC_AUTH": "me:secret", "FLOWER_UNAUTHENTICATED_API": "1"}

    require_password("development", environ, WORDS)
    with pytest.raises(InvalidSetting, match="FLOWER_UNAUTHENTICATED_API"):
        require_password("production", environ, WORDS)
