"""The options of dead letters, as the API reads them."""

from pathlib import Path

import pytest
import typer

from cli.commands.dead_letter_options import DeadLetterFilter, GroupFilter, PatchOptions, ReplayFilter
from cli.commands.dead_letters import app
from cli.main import main
from schemas.decision import DeadReason
from schemas.errors import InvalidRequest
from schemas.lanes import Lane


def test_a_filter_names_what_was_asked_for_and_nothing_else() -> None:
    which = DeadLetterFilter(reason=DeadReason.REFUSED, group="f1", tenant_id="acme", since="2026-11-24T10:00")

    assert which.as_json() == {
        "reason": "refused",
        "group": "f1",
        "tenant_id": "acme",
        "since": "2026-11-24T10:00:00+00:00",
    }
    assert DeadLetterFilter().as_json() == {}


def test_a_moment_that_is_none_is_refused_by_the_name_of_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidRequest, match="--until"):
        GroupFilter(until="yesterday").as_json()

    assert main(["dead-letters", "list", "--since", "yesterday"], {"PENSTOCK_API_KEY": "k"}) == 1
    assert "--since" in capsys.readouterr().err


def test_the_model_of_a_replay_is_the_new_one_and_the_filters_is_of_model() -> None:
    assert ReplayFilter(model="small").as_json() == {"model": "small"}
    assert PatchOptions(new_model="large").as_json() == {"model": "large"}
    replay = typer.main.get_command(app).commands["replay"]  # type: ignore[attr-defined]  # a group
    assert {"--of-model", "--model"} <= {option for parameter in replay.params for option in parameter.opts}


def test_a_patch_holds_parameters_and_contract_as_json(tmp_path: Path) -> None:
    contract = tmp_path / "contract.json"
    contract.write_text('{"type": "object"}')

    patch = PatchOptions(lane=Lane.HIGH, parameters=["temperature=0", 'stop="."'], contract=contract).as_json()

    assert patch == {
        "lane": "high",
        "parameters": {"temperature": 0, "stop": "."},
        "contract": {"type": "object"},
    }


@pytest.mark.parametrize("wrong", ["temperature", "=1", "stop=."])
def test_a_parameter_that_is_no_json_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match="--set"):
        PatchOptions(parameters=[wrong]).as_json()
