"""The output contract, which an answer must satisfy before its job is completed."""

from dataclasses import dataclass

from schemas.jsons import JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputContract:
    """A JSON Schema that the parsed answer must meet. `name` is sent with the schema."""

    schema: JsonObject
    name: str = "answer"
    strict: bool = True
