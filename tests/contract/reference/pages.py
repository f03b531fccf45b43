"""All generated files, each with the function that makes its text."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.contract.reference.celery_tasks import celery_page
from tests.contract.reference.command_line import command_line_page
from tests.contract.reference.configuration import configuration_page
from tests.contract.reference.error_codes import error_codes_page
from tests.contract.reference.http_api import http_page, openapi_text
from tests.contract.reference.log_events import log_events_page
from tests.contract.reference.metrics import metrics_page
from tests.contract.reference.source import ROOT

FILES: Mapping[str, Callable[[], str]] = {
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/cli.md": command_line_page,
    "docs/reference/http.md": http_page,
    "docs/reference/celery.md": celery_page,
    "docs/reference/metrics.md": metrics_page,
    "docs/reference/log-events.md": log_events_page,
    "docs/reference/error-codes.md": error_codes_page,
    "docs/contract/openapi.json": openapi_text,
}


def path_of(name: str) -> Path:
    return ROOT / name
