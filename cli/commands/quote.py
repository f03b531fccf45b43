"""`penstock quote`."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.client.http import ApiClient
from cli.options import Output, Server
from cli.output import dollars
from schemas.jsons import JsonObject


def quote(
    server: Server,
    output: Output,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A batch file: JSON lines.")],
) -> None:
    """Estimate cost and duration of a batch file without sending it to a provider."""
    estimate = quote_file(server.client(), file)
    output.lines(estimate, sentences(estimate))


def quote_file(api: ApiClient, file: Path) -> JsonObject:
    """Have the API price a file, and delete its copy there. Raises InvalidRequest."""
    with api.sdk() as client:
        uploaded = client.files.create(file=file, purpose="batch")
        try:
            return api.post("quote", body={"input_file_id": uploaded.id})
        finally:
            client.files.delete(uploaded.id)


def sentences(quote: JsonObject) -> list[str]:
    """Describe a quote to people."""
    lines = [
        f"{quote['requests']} requests",
        f"tokens in   {quote['likely_input_tokens']} likely, {quote['most_input_tokens']} at most",
        f"tokens out  {quote['likely_output_tokens']} likely, {quote['most_output_tokens']} at most",
        f"cost        {dollars(quote['likely_usd'])} USD likely, {dollars(quote['worst_case_usd'])} in the worst case",
        f"            {dollars(quote['one_call_usd'])} if each is asked once and answers at full length",
        f"time        {_time(quote)}",
    ]
    if quote["unpriced"]:
        lines.append(f"{quote['unpriced']} requests have no known price and are in no amount")
    return lines


def _time(quote: JsonObject) -> str:
    if quote["seconds"] is None:
        return "unknown: no limit of its models is known yet"
    return f"{timedelta(seconds=round(quote['seconds']))} at present limits ({quote['held_by']})"
