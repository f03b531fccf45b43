"""Types for ids, so that they cannot be mixed up."""

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
"""The form of every id; other ids are in no table."""
