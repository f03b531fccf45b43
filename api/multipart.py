"""Parses a multipart form as a stream. Holds at most one network read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from typing import TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from schemas.errors import InvalidRequest

MOST_FIELD_BYTES = 64_000
MOST_PARTS = 100


@dataclass(frozen=True, slots=True)
class Field:
    """A small field of the form."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegins:
    """A file starts; its pieces follow."""

    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Bytes of the file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnds:
    """The file is complete."""


Part: TypeAlias = Field | FileBegins | FilePiece | FileEnds


async def parts_of(stream: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Part]:
    """Yield the parts of a form in order. Raises InvalidRequest for a malformed form."""
    try:
        reader = _Reader(_boundary(content_type))
        async for read in stream:
            for part in reader.feed(read):
                yield part
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {error}.", param="file") from error
    reader.finish()


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest("The body must be multipart/form-data with a boundary.", param="file")
    return boundary


class _Reader:
    def __init__(self, boundary: bytes) -> None:
        self._out: list[Part] = []
        self._count = 0
        self._is_complete = False
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_text,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._form_ends,
            },
        )

    def feed(self, read: bytes) -> list[Part]:
        self._out = []
        self._parser.write(read)
        return self._out

    def finish(self) -> None:
        if not self._is_complete:
            raise InvalidRequest("The form breaks off before its end.", param="file")

    def _part_begins(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise InvalidRequest(f"A form may have at most {MOST_PARTS} parts.")
        self._disposition, self._name, self._is_file = b"", "", False
        self._header_name = self._header_value = b""
        self._value.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        self._name, filename = _names_of(self._disposition)
        if filename is not None:
            self._is_file = True
            self._out.append(FileBegins(self._name, filename))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._out.append(FilePiece(data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > MOST_FIELD_BYTES:
            raise InvalidRequest(f"A field may have at most {MOST_FIELD_BYTES} bytes.", param=self._name)

    def _part_ends(self) -> None:
        self._out.append(FileEnds() if self._is_file else Field(self._name, self._value.decode("utf-8", "replace")))

    def _form_ends(self) -> None:
        self._is_complete = True


def _names_of(disposition: bytes) -> tuple[str, str | None]:
    """Return the field's name and the file's, in plain UTF-8 or RFC 2231."""
    message = Message()
    message["content-disposition"] = disposition.decode("utf-8", "replace").replace("\r", " ").replace("\n", " ")
    name = message.get_param("name", header="content-disposition")
    return name if isinstance(name, str) else "", message.get_filename()
