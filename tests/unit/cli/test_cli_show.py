"""What a pipe gets to read."""

import json

import pytest

from cli.output import cell, dollars, show_object, show_rows


def test_a_pipe_gets_tab_separated_lines_with_the_columns_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"id": "job_1", "message": "two\nlines", "more": 1}], ("id", "message", "absent"), as_json=False)

    assert capsys.readouterr().out == "id\tmessage\njob_1\ttwo lines\n"


def test_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "job_1", "more": {"deep": [1]}}]

    show_rows(rows, ("id",), as_json=True)

    assert json.loads(capsys.readouterr().out) == rows


def test_an_empty_listing_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([], ("id",), as_json=False)

    assert capsys.readouterr().out == ""


def test_a_resource_is_shown_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    show_object({"id": "job_1", "attempts": [{"outcome": "invalid"}]}, as_json=False)

    shown = capsys.readouterr().out
    assert "id        job_1" in shown
    assert '"outcome": "invalid"' in shown


def test_cells_and_money_are_words() -> None:
    assert (cell(None), cell(value=True), cell([1])) == ("-", "yes", "[1]")
    assert dollars("1.234599") == "1.2345"
