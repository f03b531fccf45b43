"""Tells request parsing which models exist and which schemas can be contracts. Pure.

Separate from `Models`, so that a process that only reads requests loads no client.
"""

from collections.abc import Sequence

from config.catalogue import Catalogue
from providers.contract.schema_check import schema_verdict
from providers.routing import Routes
from schemas.job import Target
from schemas.jsons import JsonObject


class Vocabulary:
    """Implements `tasks.requests.chat.Vocabulary` for a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._routes = Routes(catalogue)

    def chain(self, model: str) -> tuple[Target, ...]:
        """Return the targets to try in order. Raises UnknownModel."""
        return self._routes.chain(model)

    def schema_complaint(self, schema: JsonObject) -> str | None:
        """Return why this schema cannot be a contract, or None."""
        return schema_verdict(schema).complaint

    def unchecked(self, schema: JsonObject) -> Sequence[str]:
        """Name the parts of this schema that are not checked here."""
        return schema_verdict(schema).unchecked
