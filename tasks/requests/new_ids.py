"""Creates ids: 128 random bits after a prefix that names the kind."""

import secrets
import uuid

from schemas.ids import AttemptId, BatchId, FileId, JobId, KeyId, ReplayId


def new_job_id() -> JobId:
    """A job's id, for example `job_8c1f…`."""
    return JobId(f"job_{uuid.uuid4().hex}")


def new_attempt_id() -> AttemptId:
    """An attempt's id, also sent to the provider as X-Client-Request-Id."""
    return AttemptId(f"att_{uuid.uuid4().hex}")


def new_batch_id() -> BatchId:
    """A batch's id in OpenAI's form."""
    return BatchId(f"batch_{uuid.uuid4().hex}")


def new_key_id() -> KeyId:
    """A key's id, which is not its secret."""
    return KeyId(f"key_{uuid.uuid4().hex}")


def new_key_secret() -> str:
    """A bearer secret of 256 random bits, recognisable by its prefix."""
    return f"pk_{secrets.token_urlsafe(32)}"


def new_file_id() -> FileId:
    """A file's id in OpenAI's form."""
    return FileId(f"file-{uuid.uuid4().hex}")


def new_replay_id() -> ReplayId:
    """A replay's id, for example `replay_8c1f…`."""
    return ReplayId(f"replay_{uuid.uuid4().hex}")
