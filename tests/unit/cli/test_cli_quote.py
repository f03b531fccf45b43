"""The worst case is never below what a file can cost."""

import json
from pathlib import Path

import pytest

from cli.quote import quote_file
from schemas.errors import InvalidRequest, UnknownModel

CONFIG = """
[models.mine]
price = { input = "1", cached_input = "0.5", output = "4" }
default_max_output_tokens = 100
[aliases]
small = ["mine"]
"""


def _file(folder: Path, *bodies: object) -> Path:
    file = folder / "batch.jsonl"
    file.write_text("".join(json.dumps({"custom_id": "a", "body": body}) + "\n" for body in bodies))
    return file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG)
    return path


def test_every_byte_and_the_longest_answer_count(tmp_path: Path, config: Path) -> None:
    file = _file(tmp_path, {"model": "small"}, {"model": "mine", "max_completion_tokens": 50, "n": 3})

    quote = quote_file(file, config)

    assert quote.requests == 2
    assert quote.input_tokens == file.stat().st_size
    assert quote.output_tokens == 100 + 3 * 50
    assert quote.cost_nano_usd == quote.input_tokens * 1_000 + quote.output_tokens * 4_000


def test_a_model_without_a_price_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text("[models.nobody-sells-this]\n[aliases]\n")

    with pytest.raises(UnknownModel, match="price"):
        quote_file(_file(tmp_path, {"model": "nobody-sells-this"}), config)


def test_a_broken_line_is_named(tmp_path: Path, config: Path) -> None:
    with pytest.raises(InvalidRequest, match="line 2"):
        quote_file(_file(tmp_path, {"model": "small"}, "nothing"), config)
