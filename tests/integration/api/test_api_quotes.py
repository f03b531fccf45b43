"""Money at the command line and at the door, over real stores: a quote sends nothing, a budget is set and reported."""

import json
from pathlib import Path

import pytest

from cli.main import main
from config.exit_codes import ExitCode
from tests.integration.api.conftest import ADMIN, Premises


def a_file(folder: Path, *lines: object) -> Path:
    file = folder / "batch.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def a_line(custom_id: str) -> dict[str, object]:
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_a_file_is_quoted_before_anything_is_sent(
    premises: Premises, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"PENSTOCK_URL": premises.api.url, "PENSTOCK_API_KEY": ADMIN}
    good, bad = a_file(tmp_path, a_line("a"), a_line("b")), tmp_path / "bad.jsonl"
    bad.write_text(good.read_text() + "{broken\n")

    assert main(["quote", str(good), "--json"], env) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert main(["quote", str(bad)], env) == ExitCode.FAILURE

    assert "line 3" in capsys.readouterr().err
    assert (told["requests"], told["unpriced"], told["most_output_tokens"]) == (2, 0, 200)
    assert 0 < float(told["likely_usd"]) <= float(told["one_call_usd"]) < float(told["worst_case_usd"])
    assert told["seconds"] == pytest.approx(2 / 6_000 * 60, abs=0.1)


def test_a_budget_is_set_shown_and_reported_on(premises: Premises, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"PENSTOCK_URL": premises.api.url, "PENSTOCK_API_KEY": ADMIN}

    assert main(["budgets", "set", "tenant:default", "day", "12.5", "--json"], env) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["limit_usd"] == "12.5"
    assert main(["budgets", "show", "tenant:default", "--json"], env) == ExitCode.OK
    [row] = json.loads(capsys.readouterr().out)
    assert main(["budgets", "report", "--by", "tenant,day", "--csv"], env) == ExitCode.OK
    assert main(["budgets", "set", "tenant:default", "day", "-1"], env) != ExitCode.OK

    assert row["limit_usd"] == "12.500000000"
    assert capsys.readouterr().out.startswith("tenant,day,entries,spent_usd,wasted_usd")
