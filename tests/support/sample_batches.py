"""Batches for tests of storage and upkeep."""

import uuid

from schemas.ids import BatchId, FileId, TenantId
from schemas.job import CHAT_COMPLETIONS
from schemas.lanes import Lane
from storage.batches.batches import NewBatch


def new_batch(tenant_id: TenantId, **changes: object) -> NewBatch:
    """A batch of this tenant that is not yet stored; name what differs."""
    facts: dict[str, object] = {
        "id": BatchId(f"batch_{uuid.uuid4().hex}"),
        "tenant_id": tenant_id,
        "endpoint": CHAT_COMPLETIONS,
        "lane": Lane.LOW,
        "completion_window": "24h",
        "window_seconds": 86_400.0,
        "input_file_id": FileId("file-1"),
        "metadata": None,
    }
    return NewBatch(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass
