"""Writes every generated file anew."""

from tests.contract.reference.pages import FILES, path_of

for name, text_of in FILES.items():
    path_of(name).parent.mkdir(parents=True, exist_ok=True)
    path_of(name).write_text(text_of(), encoding="utf-8")
