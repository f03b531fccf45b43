"""The output contract: what an answer must satisfy before its job may be called completed."""

from dataclasses import dataclass

from schemas.jsons import JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputContract:
    """A JSON Schema that the parsed answer must meet. `name` travels to the provider's structured output."""

    schema: JsonObject
    name: str = "answer"
    strict: bool = True
