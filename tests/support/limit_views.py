"""What the limits of targets look like by HTTP, on the command line, in metrics and in rows."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from prometheus_client.parser import text_string_to_metric_families

from schemas.jsons import JsonObject
from stack.children import wait_until
from tests.support.simulator_process import CHECKOUT
from tests.support.stack_process import StackProcess

SEEN_SECONDS = 12.0
SCRAPED_EVERY_SECONDS = 11.0
"""Gauges are believed for ten seconds."""


def hand_in(stack: StackProcess, model: str, lane: str, words: str = "turbine") -> str:
    body = {"model": model, "metadata": {"lane": lane}, "messages": [{"role": "user", "content": words}]}
    return str(stack.api.post("jobs", body=body)["id"])


def limits_of(stack: StackProcess, target: str) -> dict[str, JsonObject]:
    """The rows of a target as HTTP tells them, by the name of the limit."""
    return {row["limit"]: row for row in stack.api.get("limits")["data"] if row["target"] == target}


def counts(row: JsonObject) -> dict[str, int]:
    return {lane: told["jobs"] for lane, told in row["waiting"].items()}


def reasons(stack: StackProcess, jobs: Sequence[str]) -> list[str]:
    return sorted(stack.api.get("jobs", job)["wait_reason"] or "" for job in jobs)


def printed(stack: StackProcess, *words: str) -> str:
    command = [sys.executable, "-m", "cli", "limits", *words, "--home", str(stack.home)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout


def samples(stack: StackProcess, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """The samples of one gauge that have these labels, by the values of their other labels."""
    key = (stack.home / "secrets" / "metrics-key").read_text()
    scrape = Request(f"{stack.url}/metrics", headers={"authorization": f"Bearer {key}"})  # noqa: S310 - loopback
    with build_opener(ProxyHandler({})).open(scrape) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        tuple(value for label, value in sorted(sample.labels.items()) if label not in labels): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def eventually(look: Callable[[], Any], wanted: Any, seconds: float = SEEN_SECONDS) -> None:  # noqa: ANN401 - any value
    assert wait_until(lambda: look() == wanted, seconds=seconds), look()
