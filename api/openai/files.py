"""`/v1/files`: uploads and downloads stream to and from the store.

A form may name its purpose after the file, as the Node SDK does. The file is then stored under default terms, and
copied if the fields differ.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from api.answers import Json, checked_id, page, require, unix
from api.auth import AnyCaller, Caller
from api.errors import BodyTooLarge
from api.memory import DOWNLOAD_BYTES
from api.multipart import Field, FileBegins, FileEnds, FilePiece, Part, parts_of
from api.requests import OfMemory, OfServices, OfSettings, body_of
from schemas.errors import InvalidRequest
from schemas.ids import FileId, TenantId
from schemas.jsons import JsonObject
from storage.batches.files import FileTable, StoredFile
from tasks.requests.new_ids import new_file_id
from tasks.wiring.web import WebServices

router = APIRouter(prefix="/v1/files", tags=["files"])

UPLOAD_PURPOSES = ("batch", "assistants", "fine-tune", "vision", "user_data", "evals")
BATCH_LIFE_SECONDS = 30 * 24 * 3600
LIFE_SECONDS = (3_600, 2_592_000)
WHOLE_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
MOST_NAME_CHARACTERS = 255

FORM: JsonObject = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"type": "string", "enum": list(UPLOAD_PURPOSES)},
        "file": {"type": "string", "format": "binary"},
        "expires_after[anchor]": {"type": "string", "const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": LIFE_SECONDS[0], "maximum": LIFE_SECONDS[1]},
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Purpose and lifetime of a file."""

    purpose: str
    life_seconds: int | None


USUAL = Terms(purpose="batch", life_seconds=BATCH_LIFE_SECONDS)


@router.post("", openapi_extra=body_of(FORM, "multipart/form-data"))
async def upload(request: Request, caller: AnyCaller, services: OfServices, settings: OfSettings) -> Json:
    """Store a file."""
    parts = parts_of(request.stream(), request.headers.get("content-type", ""))
    stored = await receive_upload(parts, services, caller, most_bytes=settings.max_file_bytes)
    return Json(file_object(stored))


@router.get("")
async def list_files(
    caller: AnyCaller,
    services: OfServices,
    *,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    purpose: str | None = None,
    order: Literal["desc"] = "desc",
) -> Json:
    """List files, newest first."""
    _ = order
    cursor = None if after is None else FileId(checked_id(after, "file"))
    checked_purpose = None if purpose is None else checked_id(purpose, "purpose")
    rows = await services.files.newest(caller.tenant_id, after=cursor, most=limit + 1, purpose=checked_purpose)
    return page(rows, limit, file_object)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Show a file."""
    return Json(file_object(await find_file(file_id, caller, services.files)))


@router.get("/{file_id}/content")
async def file_content(file_id: str, caller: AnyCaller, services: OfServices, memory: OfMemory) -> StreamingResponse:
    """Stream a file's bytes."""
    stored = await find_file(file_id, caller, services.files)
    memory.take_buffers(DOWNLOAD_BYTES)
    return StreamingResponse(
        services.files.content(stored.id),
        media_type="application/octet-stream",
        headers={
            "content-length": str(stored.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(stored.filename, safe='')}",
        },
    )


@router.delete("/{file_id}")
async def delete_file(file_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Delete a file."""
    checked = FileId(checked_id(file_id, "file"))
    deleted = await services.files.delete(checked, caller.tenant_id)
    require(deleted or None, "file", file_id)
    return Json({"id": file_id, "object": "file", "deleted": True})


def file_object(stored: StoredFile) -> JsonObject:
    """Return a file in OpenAI's shape."""
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.bytes,
        "created_at": unix(stored.created_at),
        "expires_at": unix(stored.expires_at),
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


async def receive_upload(
    parts: AsyncIterator[Part], services: WebServices, caller: Caller, *, most_bytes: int
) -> StoredFile:
    """Store the file of a form, whose fields may stand before or after it."""
    files = services.files
    fields: dict[str, str] = {}
    stored, terms = None, USUAL
    try:
        async for part in parts:
            match part:
                case Field(name, value):
                    fields[name] = value
                case FileBegins(name="file", filename=filename) if stored is None:
                    terms = _terms(fields) if "purpose" in fields else USUAL
                    content = services.quotas.counted(caller.tenant_id, _file_bytes(parts, most_bytes))
                    stored = await _store(files, caller.tenant_id, content, _checked_name(filename), terms)
                case FileBegins(name):
                    _refuse_file(name)
                case _:
                    pass
        return await _under_final_terms(stored, terms, fields, files)
    except BaseException:
        if stored is not None:
            await files.delete(stored.id, caller.tenant_id)
        raise


def _refuse_file(name: str) -> NoReturn:
    raise InvalidRequest("A form holds one file, in the field named file.", param=name or "file")


async def _under_final_terms(
    stored: StoredFile | None, terms: Terms, fields: dict[str, str], files: FileTable
) -> StoredFile:
    final_terms = _terms(fields)
    if stored is None:
        raise InvalidRequest("file is missing from the form.", param="file")
    if final_terms == terms:
        return stored
    copy = await _store(files, stored.tenant_id, files.content(stored.id), stored.filename, final_terms)
    await files.delete(stored.id, stored.tenant_id)
    return copy


async def _store(
    files: FileTable, tenant_id: TenantId, content: AsyncIterator[bytes], filename: str, terms: Terms
) -> StoredFile:
    return await files.write(
        new_file_id(), tenant_id, content, filename=filename, purpose=terms.purpose, life_seconds=terms.life_seconds
    )


async def _file_bytes(parts: AsyncIterator[Part], most_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    async for part in parts:
        match part:
            case FilePiece(data):
                size += len(data)
                if size > most_bytes:
                    raise BodyTooLarge(f"A file may have at most {most_bytes} bytes.", param="file")
                yield data
            case FileEnds():
                return
            case _:
                pass


def _terms(fields: dict[str, str]) -> Terms:
    purpose = fields.get("purpose")
    if purpose not in UPLOAD_PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(UPLOAD_PURPOSES)}.", param="purpose")
    return Terms(purpose=purpose, life_seconds=_life_seconds(fields, purpose))


def _life_seconds(fields: dict[str, str], purpose: str) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return BATCH_LIFE_SECONDS if purpose == "batch" else None
    if anchor != "created_at":
        raise InvalidRequest("expires_after.anchor must be created_at.", param="expires_after.anchor")
    least, most = LIFE_SECONDS
    if seconds is None or not WHOLE_SECONDS.fullmatch(seconds) or not least <= int(seconds) <= most:
        raise InvalidRequest(f"expires_after.seconds must be {least} to {most}.", param="expires_after.seconds")
    return int(seconds)


def _checked_name(filename: str) -> str:
    if not 0 < len(filename) <= MOST_NAME_CHARACTERS or not filename.isprintable():
        raise InvalidRequest(f"The file's name must have 1 to {MOST_NAME_CHARACTERS} characters.", param="file")
    return filename


async def find_file(file_id: str, caller: Caller, files: FileTable) -> StoredFile:
    """Return the caller's file. Raises NotFound."""
    checked = FileId(checked_id(file_id, "file"))
    return require(await files.find(checked, caller.tenant_id), "file", file_id)
