"""Files are streamed in chunks, and a broken upload leaves nothing."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.ids import FileId, TenantId
from storage.batches.files import CHUNK_BYTES, FileTable

TENANT = TenantId("default")


async def parts(*given: bytes) -> AsyncIterator[bytes]:
    for part in given:
        yield part


async def test_a_file_of_several_chunks_comes_back_byte_for_byte(engine: AsyncEngine) -> None:
    files, body = FileTable(engine), bytes(range(256)) * (CHUNK_BYTES // 100)

    stored = await files.write(FileId("file-1"), TENANT, parts(body[:7], body[7:]), filename="a.jsonl", purpose="batch")
    read = b"".join([chunk async for chunk in files.content(FileId("file-1"))])

    assert stored.bytes == len(body)
    assert read == body


async def test_lines_are_whole_across_chunks(engine: AsyncEngine) -> None:
    files = FileTable(engine)
    lines = [str(n).encode() * 40 for n in range(60_000)]

    await files.write(FileId("file-2"), TENANT, parts(b"\n".join(lines)), filename="a", purpose="batch")

    assert [line async for line in files.lines(FileId("file-2"))] == lines


async def test_a_line_above_the_cap_comes_cut_and_the_others_whole(engine: AsyncEngine) -> None:
    files, long = FileTable(engine), b"x" * (3 * CHUNK_BYTES)
    body = parts(b"a\n" + long + b"\nb\n" + long)

    await files.write(FileId("file-long"), TENANT, body, filename="a", purpose="batch")
    lines = [line async for line in files.lines(FileId("file-long"), most_bytes=10)]

    assert lines == [b"a", b"x" * 11, b"b", b"x" * 11]


async def test_an_upload_that_breaks_off_leaves_nothing(engine: AsyncEngine) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (CHUNK_BYTES + 1)
        raise ConnectionResetError

    files = FileTable(engine)

    with pytest.raises(ConnectionResetError):
        await files.write(FileId("file-3"), TENANT, broken(), filename="a", purpose="batch")

    assert await files.find(FileId("file-3"), TENANT) is None
    assert [chunk async for chunk in files.content(FileId("file-3"))] == []


async def test_a_foreign_file_is_not_there(engine: AsyncEngine) -> None:
    files = FileTable(engine)
    await files.write(FileId("file-4"), TENANT, parts(b"x"), filename="a", purpose="batch")

    assert await files.find(FileId("file-4"), TenantId("other")) is None
    assert not await files.delete(FileId("file-4"), TenantId("other"))
    assert await files.delete(FileId("file-4"), TENANT)


async def test_listing_goes_on_after_the_cursor(engine: AsyncEngine) -> None:
    files = FileTable(engine)
    for name in "abcde":
        await files.write(FileId(f"file-l{name}"), TENANT, parts(b"x"), filename=name, purpose="listed")

    first = await files.newest(TENANT, most=2, purpose="listed")
    rest = await files.newest(TENANT, after=first[-1].id, most=9, purpose="listed")

    assert [file.filename for file in [*first, *rest]] == list("edcba")
