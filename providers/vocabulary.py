"""Tells request parsing which models exist and which schemas can be contracts. Pure.

Separate from `Models`, so that a process that only reads requests loads no client.
"""

from collections.abc import Sequence

from providers.contract.schema_check import schema_verdict
from providers.routing import Routes
from schemas.jsons import JsonObject


class Vocabulary(Routes):
    """Implements `tasks.requests.chat.Vocabulary` for a catalogue."""

    def schema_complaint(self, schema: JsonObject) -> str | None:
        """Return why this schema cannot be a contract, or None."""
        return schema_verdict(schema).complaint

    def unchecked(self, schema: JsonObject) -> Sequence[str]:
        """Name the parts of this schema that are not checked here."""
        return schema_verdict(schema).unchecked
