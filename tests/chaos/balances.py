"""Watching money in Redis from a process of its own: every counter in one atomic read, again and again."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import redis

from admission.keys import Keys

READ = """
local worst, reserved, seen = -9007199254740992, 0, 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local kind = string.match(key, 'budget:(%a+)')
  for j = 1, #ARGV, 2 do
    if ARGV[j] == kind then
      local v = redis.call('HMGET', key, 's', 'r')
      local over = (v[1] or 0) + (v[2] or 0) - ARGV[j + 1]
      if over > worst then worst = over end
      reserved, seen = reserved + (v[2] or 0), seen + 1
    end
  end
end
return {string.format('%.0f', worst), string.format('%.0f', reserved), seen}
"""
"""KEYS index of counters; ARGV kind of scope, limit, ... Reply: worst of settled + reserved - limit, all reserved,
number of counters."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What was seen. `worst_nano_usd` is the highest settled + reserved - limit of any counter in any sample."""

    number: int
    seconds: float
    worst_nano_usd: int
    full: int
    most_counters: int

    @property
    def per_second(self) -> float:
        return self.number / self.seconds


def watch(redis_url: str, limits: dict[str, int], over: Event, told: Connection) -> None:
    """The process: sample until it is over, then tell. `limits` are by kind of scope."""
    with suppress(PermissionError):
        os.nice(-10)  # sixteen others are at work; whoever watches them must not be the one who waits
    words = [str(word) for pair in limits.items() for word in pair]
    number, worst, full, most, began = 0, -(2**53), 0, 0, time.monotonic()
    with redis.Redis.from_url(redis_url) as client:
        read = client.register_script(READ)
        while not over.is_set():
            found, _, seen = read(keys=[Keys().counters], args=words)
            worst, most, number = max(worst, int(found)), max(most, seen), number + 1
            full += int(found) == 0
    told.send(
        Samples(number=number, seconds=time.monotonic() - began, worst_nano_usd=worst, full=full, most_counters=most)
    )


def reserved_in(redis_url: str, limits: dict[str, int]) -> int:
    """What all counters hold reserved now."""
    words = [str(word) for pair in limits.items() for word in pair]
    with redis.Redis.from_url(redis_url) as client:
        return int(client.eval(READ, 1, Keys().counters, *words)[1])
