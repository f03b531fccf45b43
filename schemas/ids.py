"""Names of things, as types that cannot be mixed up. Values are made by `tasks.identity`."""

from typing import NewType

TenantId = NewType("TenantId", str)
JobId = NewType("JobId", str)
BatchId = NewType("BatchId", str)
FileId = NewType("FileId", str)
AttemptId = NewType("AttemptId", str)
KeyId = NewType("KeyId", str)
ReplayId = NewType("ReplayId", str)

DEFAULT_TENANT = TenantId("default")
