"""`python -m tests.chaos.campaign --seed N --jobs 20000 --seconds 300`: load, faults, and one table. Exit code 1 when
anything that must be zero is not, or the system stood still for longer than it may.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

from storage.queue.transitions import LOST_MESSAGE_SECONDS
from tests.chaos.faults import BREATH_SECONDS, STUTTER_SECONDS, STUTTERS, WATCHDOG_SECONDS, Faults
from tests.chaos.load import SCENARIOS, Load
from tests.chaos.site import Site, running_site
from tests.chaos.verdict import Verdict, judge, known_keys, unfinished, watch_rests
from tests.support.simulator_process import SimulatorProcess

LEASE_SECONDS = 5.0
LOOK_SECONDS = 0.25
SECONDS_PER_FAULT = 6.0
LAST = ("worker taken over", "messages lost", "redis wiped")
"""Brought at the end of every campaign, because the deck of a short one may not hold them: a holder that comes back
while its successor runs, and messages that nobody sends again unless the outbox is swept."""

SETTLE_SECONDS = 120.0
"""How long what is left may take after the last fault."""

ENV = {
    "PENSTOCK_LEASE_SECONDS": str(LEASE_SECONDS),
    "PENSTOCK_HEARTBEAT_SECONDS": "1.2",
    "PENSTOCK_WATCHDOG_SECONDS": str(WATCHDOG_SECONDS),
    "PENSTOCK_DRAIN_GRACE_SECONDS": "3",
    "PENSTOCK_SLOTS": "100",
    "PENSTOCK_RESERVED_CRITICAL_SLOTS": "10",
    "PENSTOCK_SLICE_SIZE": "16",
    "PENSTOCK_RUN_AHEAD_JOBS": "64",
    "PENSTOCK_FIRST_BYTE_TIMEOUT_SECONDS": "60",
}
"""A short lease, so that many are lost in few minutes; calls are drawn so that one in fifty outlasts it. What is
published and not yet held is, over all flows, some two seconds of what two cores under faults get through, as the
default is of a whole deployment: whoever is given back by a dead worker has that much before him."""

LATENCY = "lognormal:400,1.1"

MOST_SECONDS = {
    "worker killed": LEASE_SECONDS + 5,
    "web killed": LEASE_SECONDS + 5,
    "worker paused": LEASE_SECONDS + 5,
    "worker cut off": LEASE_SECONDS + 5,
    "worker stuttered": STUTTERS * (STUTTER_SECONDS[1] + BREATH_SECONDS[1]) + LEASE_SECONDS + 5,
    "messages lost": LOST_MESSAGE_SECONDS + 10,
    "redis killed": 10.0,
    "redis wiped": 10.0,
    "redis paused": 10.0,
    "postgres killed": 10.0,
    "postgres paused": 10.0,
    "hung loop": WATCHDOG_SECONDS + LEASE_SECONDS + 5,
    "greedy tenant": 15.0,
}
"""How long the system may stand still: after the kill of a worker, until its jobs are given back and others come to
rest, and after a store is back. What is given back then has its turn in its lane like others. Beside a greedy tenant it
is until another's jobs of all lanes but low are at rest. After messages were lost
it does not stand still at all; their own jobs may wait for the outbox to be swept."""


def run(*, seed: int, jobs: int, seconds: float, folder: Path, only: tuple[str, ...] = ()) -> tuple[Verdict, Faults]:
    """One campaign; everything that it started has ended when it returns."""
    with (
        SimulatorProcess.start(
            seed=seed, latency=LATENCY, requests_per_minute=0, tokens_per_minute=0, scenarios=SCENARIOS
        ) as provider,
        running_site(folder, provider, env=ENV) as site,
    ):
        watch_rests(site.database_url)
        chance = random.Random(seed)  # noqa: S311 - a campaign can be repeated
        load = Load(url=site.url, key=site.key, redis_url=site.redis_url, chance=random.Random(seed))  # noqa: S311 - the same
        faults = Faults(site=site, chance=chance, lease_seconds=LEASE_SECONDS)
        handing_in = Thread(target=load.run, args=(jobs, seconds), name="load")
        handing_in.start()
        _conduct(faults, chance, handing_in, seconds, only)
        _settle(site, load, faults, handing_in)
        return judge(site, load, faults.orphans), faults


def _conduct(faults: Faults, chance: random.Random, handing_in: Thread, seconds: float, only: tuple[str, ...]) -> None:
    started_at, next_at = time.monotonic(), time.monotonic() + SECONDS_PER_FAULT
    ends_at = started_at + seconds
    last_at = ends_at - len(LAST) * SECONDS_PER_FAULT
    deck, last = (kind for kind in faults.deck() if not only or kind in only), [kind for kind in LAST if not only]
    while time.monotonic() < ends_at or handing_in.is_alive() or last:
        faults.look()
        now = time.monotonic()
        if faults.quiet and last and now >= last_at:
            _bring(faults, last.pop(0), now - started_at)
        elif faults.quiet and next_at <= now < last_at + (ends_at - last_at) * bool(only):
            _bring(faults, next(deck), now - started_at)
            next_at = now + SECONDS_PER_FAULT * chance.uniform(0.5, 1.5)
        time.sleep(LOOK_SECONDS)
        if now > ends_at + SETTLE_SECONDS:
            break


def _bring(faults: Faults, kind: str, at_seconds: float) -> None:
    print(f"{at_seconds:6.1f} s  {kind}", flush=True)  # noqa: T201 - the campaign's progress
    faults.bring(kind)


def _settle(site: Site, load: Load, faults: Faults, handing_in: Thread) -> None:
    give_up_at = time.monotonic() + SETTLE_SECONDS
    sending = Thread(target=load.send_missing, args=(lambda: known_keys(site.database_url), SETTLE_SECONDS))
    while not faults.quiet and time.monotonic() < give_up_at:
        faults.look()
        time.sleep(LOOK_SECONDS)
    sending.start()
    while time.monotonic() < give_up_at:
        faults.look()
        if not handing_in.is_alive() and not sending.is_alive() and unfinished(site.database_url) == 0:
            break
        time.sleep(LOOK_SECONDS)
    load.stopping.set()
    handing_in.join()
    sending.join()


def report(verdict: Verdict, faults: Faults) -> tuple[str, ...]:
    """Print the table; returns the names of what is wrong."""
    stood_still = {kind: round(seconds, 1) for kind, seconds in sorted(faults.longest.items())}
    too_long = [kind for kind, seconds in faults.longest.items() if seconds > MOST_SECONDS[kind]]
    too_long += [f"{stall.kind} (never over)" for stall in faults.stalls]
    faced: dict[str, object] = {
        "odd replies": faults.odd_replies,
        "jobs of a greedy tenant": 0 if faults.greedy is None else faults.greedy.sent,
        "faults": len(faults.done),
        "faults by kind": dict(sorted(Counter(faults.done).items())),
        "messages lost": faults.messages_lost,
        "messages doubled": faults.messages_doubled,
        "taken over when the holder came back": faults.taken_over,
        "messages gone with the worker that took them in": faults.messages_gone,
    }
    turn = {"longest until a job that waited for others had its turn, seconds": round(faults.longest_turn, 1)}
    _print({**faced, **verdict.figures, "longest stall, seconds": stood_still, **turn})
    gone = ["messages gone with the worker that took them in"] * bool(faults.messages_gone)
    wrong = (*verdict.wrong, *gone, *(f"stall: {kind}" for kind in too_long))
    print("wrong: " + (", ".join(wrong) or "nothing"), flush=True)  # noqa: T201 - the campaign's verdict
    return wrong


def _print(figures: Mapping[str, object]) -> None:
    width = max(len(name) for name in figures)
    for name, figure in figures.items():
        text = figure if not isinstance(figure, dict) else " · ".join(f"{key} {value}" for key, value in figure.items())
        print(f"{name:<{width}}  {text if text != '' else '-'}")  # noqa: T201 - the campaign's table


def main() -> int:
    """Read the command line, run one campaign, print its table."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument(
        "--only", action="append", default=[], help="a kind of fault; may be repeated", choices=Faults.KINDS
    )
    parser.add_argument("--keep", type=Path, help="leave the home folder with its logs here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-chaos-") as folder:
        verdict, faults = run(
            seed=options.seed,
            jobs=options.jobs,
            seconds=options.seconds,
            folder=options.keep or Path(folder),
            only=tuple(options.only),
        )
        return 1 if report(verdict, faults) else 0


if __name__ == "__main__":
    sys.exit(main())
