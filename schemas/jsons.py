"""JSON as a type: what a request body and a reply are made of before anybody has parsed them."""

from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
