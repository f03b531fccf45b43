"""Uses Penstock through the official OpenAI SDK: a chat, a streamed chat, and a batch. Only base URL and key differ.

PENSTOCK_API_KEY=… python examples/sdk_caller.py batch.jsonl
"""

import os
import sys
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("PENSTOCK_URL", "http://127.0.0.1:8080") + "/v1", api_key=os.environ["PENSTOCK_API_KEY"]
)


def chat() -> None:
    """One question, answered whole; it waits for the shared quota in the critical lane."""
    completion = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "What is a penstock, in one sentence?"}]
    )
    print(completion.choices[0].message.content)


def streamed_chat() -> None:
    """The same, word by word."""
    chunks = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Name three kinds of water turbine."}], stream=True
    )
    for chunk in chunks:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def batch(path: Path) -> None:
    """A file of requests, worked off at the speed of the quota."""
    with path.open("rb") as requests:
        uploaded = client.files.create(file=requests, purpose="batch")
    created = client.batches.create(
        input_file_id=uploaded.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"lane": "normal"},
    )
    while created.status in {"validating", "in_progress", "finalizing"}:
        time.sleep(1)
        created = client.batches.retrieve(created.id)
        print(created.status, created.request_counts)
    if created.output_file_id:
        print(client.files.content(created.output_file_id).text[:500])


chat()
streamed_chat()
if len(sys.argv) > 1:
    batch(Path(sys.argv[1]))
