"""Names of things, as types that cannot be mixed up. Values are made by `tasks.requests.new_ids`."""

import re
from typing import NewType

TenantId = NewType("TenantId", str)
JobId = NewType("JobId", str)
BatchId = NewType("BatchId", str)
FileId = NewType("FileId", str)
AttemptId = NewType("AttemptId", str)
KeyId = NewType("KeyId", str)
ReplayId = NewType("ReplayId", str)

DEFAULT_TENANT = TenantId("default")

MOST_ID_CHARACTERS = 128
ID = re.compile(rf"[A-Za-z0-9_.-]{{1,{MOST_ID_CHARACTERS}}}")
"""What every id of ours can be, whoever made it: what does not match is in no table."""
