"""Runs as the process that checks large replies, which its parent can kill.

It ends when its parent closes the pipe, or by an alarm. It has no credentials and opens nothing.
"""

import os
import pickle
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from struct import Struct
from typing import BinaryIO

from providers.contract.evaluate import judge
from providers.contract.validation import CompiledSchemas, UnusableSchema
from providers.contract.work import Work
from schemas.jsons import JsonObject
from schemas.outcome import Invalid, Judged
from schemas.reply import Reply

LENGTH = Struct(">I")
"""Length before each message."""

MAX_MEMORY_BYTES = 1_000_000_000
"""Address space of one child."""

ALARM_MARGIN_SECONDS = 1.0
"""The parent abandons a check first; the alarm covers a dead parent."""

NICENESS = 5
"""Replies checked on event loops take precedence."""

NOT_CHECKABLE = "The reply cannot be checked: {}."


def request_of(reply: Reply, schema: JsonObject) -> bytes:
    """Encode a request. Raises RecursionError for too deep a reply."""
    return pickle.dumps((reply, schema))


def judged_of(answer: bytes, reply: Reply) -> Judged:
    """Decode the verdict on this reply."""
    is_same, judged = pickle.loads(answer)  # noqa: S301 - written by `answer_to`, from a child of ours
    verdict: Judged = replace(judged, reply=reply) if is_same else judged
    return verdict


def answer_to(request: bytes, schemas: CompiledSchemas) -> bytes:
    """Return the verdict on a reply; failures become complaints."""
    reply, schema = pickle.loads(request)  # noqa: S301 - written by `request_of`, by the parent
    try:
        return _answer(reply, judge(reply, schemas.of(schema), Work(None)))
    except UnusableSchema as error:
        complaint = NOT_CHECKABLE.format(f"its schema is not usable, {error}")
    except Exception as error:  # noqa: BLE001 - the reply is paid for: it ends as invalid, with the kind of error
        complaint = NOT_CHECKABLE.format(type(error).__name__)
    return _answer(reply, Invalid(reply=reply, complaint=complaint))


def _answer(reply: Reply, judged: Judged) -> bytes:
    is_same = judged.reply is reply
    bare = replace(reply, body={}, text=None) if is_same else judged.reply
    return pickle.dumps((is_same, replace(judged, reply=bare)))


def serve(requests: BinaryIO, answers: BinaryIO, most_seconds: float) -> None:
    """Answer requests until the parent closes its end."""
    schemas = CompiledSchemas()
    while len(length := requests.read(LENGTH.size)) == LENGTH.size:
        request = requests.read(LENGTH.unpack(length)[0])
        signal.setitimer(signal.ITIMER_REAL, most_seconds + ALARM_MARGIN_SECONDS)
        answer = answer_to(request, schemas)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def main() -> None:
    """Serve on the standard streams; the argument is the seconds per check."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # meant for the parent, whose checks are still needed while it drains
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process also within a call of the engine
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))


if __name__ == "__main__":
    main()
