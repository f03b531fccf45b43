"""Creates ids: a prefix and 128 random bits."""

import secrets
import uuid

from schemas.ids import AttemptId, BatchId, FileId, JobId, KeyId, ReplayId


def new_job_id() -> JobId:
    """Create an id like `job_8c1f…`."""
    return JobId(f"job_{uuid.uuid4().hex}")


def new_attempt_id() -> AttemptId:
    """Create an id, also sent to the provider as X-Client-Request-Id."""
    return AttemptId(f"att_{uuid.uuid4().hex}")


def new_batch_id() -> BatchId:
    """Create an id in OpenAI's form."""
    return BatchId(f"batch_{uuid.uuid4().hex}")


def new_key_id() -> KeyId:
    """Create an id, which is not the secret."""
    return KeyId(f"key_{uuid.uuid4().hex}")


def new_key_secret() -> str:
    """Create a bearer secret of 256 random bits."""
    return f"pk_{secrets.token_urlsafe(32)}"


def new_file_id() -> FileId:
    """Create an id in OpenAI's form."""
    return FileId(f"file-{uuid.uuid4().hex}")


def new_replay_id() -> ReplayId:
    """Create an id like `replay_8c1f…`."""
    return ReplayId(f"replay_{uuid.uuid4().hex}")
