"""What reading a request needs to know: which models there are, and whether a schema can be a contract. Pure.

Apart from `Models` so that a process which only reads requests loads no client.
"""

from collections.abc import Sequence

from config.catalogue import Catalogue
from providers.contract.schema_check import schema_verdict
from providers.routing import Routes
from schemas.job import Target
from schemas.jsons import JsonObject


class Vocabulary:
    """`tasks.requests.chat.Vocabulary` of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._routes = Routes(catalogue)

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order. Raises UnknownModel, naming what there is."""
        return self._routes.chain(model)

    def schema_complaint(self, schema: JsonObject) -> str | None:
        """Why this schema cannot be a contract, or None."""
        return schema_verdict(schema).complaint

    def unchecked(self, schema: JsonObject) -> Sequence[str]:
        """What of this schema is sent to the provider and not checked here."""
        return schema_verdict(schema).unchecked
