"""The output contract of a job."""

from dataclasses import dataclass

from schemas.jsons import JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputContract:
    """A JSON Schema for the parsed answer; `name` is sent with it."""

    schema: JsonObject
    name: str = "answer"
    strict: bool = True
