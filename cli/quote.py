"""What a batch file costs in the worst case, before anybody is asked for it.

Every byte of a body counts as one token, which no tokenizer passes; every answer counts as long as it may get.
"""

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from genai_prices import Usage, calc_price

from config.catalogue import Catalogue, load_catalogue
from schemas.errors import InvalidRequest, UnknownModel
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, nano_from_usd

MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class FileQuote:
    """Worst case of a whole file."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: NanoUsd


def quote_file(file: Path, config: Path) -> FileQuote:
    """Add up the worst case of every line. Raises InvalidRequest, UnknownModel for a model without a known price."""
    catalogue = load_catalogue(config)
    requests, totals = 0, dict[str, tuple[int, int]]()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            body = _body(number, line)
            model = _model(catalogue, body)
            input_tokens, output_tokens = totals.get(model, (0, 0))
            totals[model] = input_tokens + len(line), output_tokens + _longest_answer(catalogue, model, body)
            requests += 1
    return FileQuote(
        requests=requests,
        input_tokens=sum(input_tokens for input_tokens, _ in totals.values()),
        output_tokens=sum(output_tokens for _, output_tokens in totals.values()),
        cost_nano_usd=NanoUsd(sum(_cost(catalogue, model, *tokens) for model, tokens in totals.items())),
    )


def _body(number: int, line: bytes) -> JsonObject:
    try:
        body: object = json.loads(line)["body"]
    except (ValueError, KeyError, TypeError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest(f"line {number} is not a request with a body")
    return body


def _model(catalogue: Catalogue, body: JsonObject) -> str:
    asked = str(body.get("model"))
    model = catalogue.aliases.get(asked, (asked,))[0]
    if model not in catalogue.models:
        raise UnknownModel(f"the model {asked!r} is not configured here")
    return model


def _longest_answer(catalogue: Catalogue, model: str, body: JsonObject) -> int:
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    longest = asked if isinstance(asked, int) else catalogue.models[model].default_max_output_tokens
    answers = body.get("n", 1)
    return longest * (answers if isinstance(answers, int) else 1)


def _cost(catalogue: Catalogue, model: str, input_tokens: int, output_tokens: int) -> NanoUsd:
    price = catalogue.models[model].price
    if price is not None:
        return nano_from_usd((price.input * input_tokens + price.output * output_tokens) / Decimal(MILLION))
    try:
        found = calc_price(Usage(input_tokens=input_tokens, output_tokens=output_tokens), model)
    except LookupError as error:
        raise UnknownModel(f'no price is known for {model!r}; set [models."{model}"] price in penstock.toml') from error
    return nano_from_usd(found.total_price)
