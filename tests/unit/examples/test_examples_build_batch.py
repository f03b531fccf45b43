"""The batch of the demo: enough requests, all different, each answerable under strict structured output."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "build_batch.py"


def _build(target: Path, *arguments: str) -> list[dict[str, Any]]:
    subprocess.run([sys.executable, str(SCRIPT), "-o", str(target), *arguments], check=True, capture_output=True)
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The default batch."""
    return _build(tmp_path_factory.mktemp("batch") / "batch.jsonl")


def test_there_are_at_least_a_thousand_different_requests(lines: list[dict[str, Any]]) -> None:
    assert len(lines) >= 1_000
    assert len({line["custom_id"] for line in lines}) == len(lines)
    assert len({json.dumps(line["body"]["messages"]) for line in lines}) == len(lines)


def test_lengths_and_kinds_vary(lines: list[dict[str, Any]]) -> None:
    lengths = sorted(len(json.dumps(line["body"]["messages"])) for line in lines)
    kinds = {line["custom_id"].split("-")[0] for line in lines}

    assert lengths[-1] > 10 * lengths[0]
    assert kinds == {"package", "module", "class", "function"}
    assert {len(line["body"]["messages"]) for line in lines} == {1, 2, 4}


def test_every_line_has_the_shape_of_a_batch_file(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert line["body"]["model"] == "small"


def test_the_schema_is_one_that_strict_output_accepts(lines: list[dict[str, Any]]) -> None:
    described = lines[0]["body"]["response_format"]["json_schema"]

    jsonschema.Draft202012Validator.check_schema(described["schema"])
    assert described["strict"] is True
    assert _is_closed(described["schema"])


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    first = _build(tmp_path / "a.jsonl", "--count", "40", "--seed", "3")

    assert _build(tmp_path / "b.jsonl", "--count", "40", "--seed", "3") == first
    assert _build(tmp_path / "c.jsonl", "--count", "40", "--seed", "4") != first


def _is_closed(schema: dict[str, Any]) -> bool:
    match schema.get("type"):
        case "object":
            closed = schema["additionalProperties"] is False and set(schema["required"]) == set(schema["properties"])
            return closed and all(_is_closed(part) for part in schema["properties"].values())
        case "array":
            return _is_closed(schema["items"])
        case _:
            return True
