"""`python -m simulator --port N`: an OpenAI-compatible provider with real limits, a meter and faults by name.

Prints `listening on http://127.0.0.1:N` once it does. SIGTERM and SIGINT end it at once with exit code 0.
"""

import argparse
import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from simulator.faults import SCENARIOS, checked_shares
from simulator.provider import Provider
from simulator.server import Server
from simulator.settings import BadSetting, Charge, Latency, Model, Price, Remaining, Settings, from_file

_PR_SET_PDEATHSIG = 1
_PRICE_PARTS = 3


def main() -> int:
    """Read the command line, listen, serve until a signal."""
    options = _parser().parse_args()
    if options.list_scenarios:
        sys.stdout.writelines(f"{name:16} {meaning}\n" for name, meaning in SCENARIOS.items())
        return 0
    try:
        settings = settings_of(options)
        checked_shares(settings.scenarios)
    except BadSetting as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 2
    if options.die_with_parent:
        _die_with_parent()
    listening = socket.create_server((options.host, options.port), backlog=4096)
    asyncio.run(_serve(settings, listening, options.port_file))
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings: defaults, then the file, then the command line."""
    settings = Settings() if options.config is None else from_file(options.config, Settings())
    given = {
        name: value
        for name in (
            "seed",
            "requests_per_minute",
            "tokens_per_minute",
            "burst_seconds",
            "throttle_retry_after_seconds",
        )
        if (value := getattr(options, name)) is not None
    }
    settings = replace(settings, **given)
    if options.latency is not None:
        settings = replace(settings, latency=Latency.parse(options.latency))
    if options.charge is not None:
        settings = replace(settings, charge=Charge(options.charge))
    if options.remaining is not None:
        settings = replace(settings, remaining=Remaining(options.remaining))
    scenarios = dict(settings.scenarios) | dict(_share(text) for text in options.scenario)
    models = dict(settings.models) | dict(_priced(text) for text in options.model)
    return replace(
        settings,
        scenarios=scenarios,
        models=models,
        keys=settings.keys | set(options.key),
        refund=settings.refund or options.refund,
        refusals_count=settings.refusals_count and not options.refusals_are_free,
        prompt_cache=settings.prompt_cache and not options.no_prompt_cache,
        instant=settings.instant or options.instant,
        instant_answer=options.instant_answer or settings.instant_answer,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="write the port here once it listens")
    parser.add_argument("--config", type=Path, help="a TOML file; the command line goes before it")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--key", action="append", default=[], help="accept this key only; may be repeated")
    parser.add_argument("--model", action="append", default=[], help="NAME=INPUT/CACHED/OUTPUT, USD per million tokens")
    parser.add_argument("--scenario", action="append", default=[], help="NAME=SHARE; may be repeated")
    parser.add_argument("--list-scenarios", action="store_true")
    parser.add_argument("--latency", help="fixed:MS, uniform:A-B or lognormal:MEDIAN,SIGMA")
    parser.add_argument("--requests-per-minute", type=int, help="0: no limit")
    parser.add_argument("--tokens-per-minute", type=int, help="0: no limit")
    parser.add_argument("--burst-seconds", type=float, help="depth of the buckets in seconds of their rate")
    parser.add_argument("--charge", choices=list(Charge), help="tokens that a call takes when it is admitted")
    parser.add_argument("--remaining", choices=list(Remaining), help="what x-ratelimit-remaining counts from")
    parser.add_argument("--refund", action="store_true", help="give unused tokens back after the answer")
    parser.add_argument("--refusals-are-free", action="store_true", help="a refused call takes no request")
    parser.add_argument("--throttle-retry-after-seconds", type=int)
    parser.add_argument("--no-prompt-cache", action="store_true", help="bill every prompt in full")
    parser.add_argument("--instant", action="store_true", help="no latency, no limits, a prebuilt answer")
    parser.add_argument("--instant-answer", help="what the prebuilt answer says, to structured requests too")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the parent process does (Linux)")
    return parser


def _share(text: str) -> tuple[str, float]:
    name, equals, share = text.partition("=")
    try:
        return name, float(share if equals else 1)
    except ValueError:
        raise BadSetting(f"--scenario is NAME=SHARE, not {text!r}") from None


def _priced(text: str) -> tuple[str, Model]:
    name, _, prices = text.partition("=")
    parts = prices.split("/")
    if not name or len(parts) != _PRICE_PARTS:
        raise BadSetting(f"--model is NAME=INPUT/CACHED/OUTPUT, not {text!r}")
    return name, Model(price=Price.usd(*parts))


async def _serve(settings: Settings, listening: socket.socket, port_file: Path | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gc.freeze()  # what was imported stays: fewer pauses under load
    server = Server(Provider(settings, unix_now=time.time()))
    host, port = listening.getsockname()[:2]
    if port_file is not None:
        beside = port_file.with_name(f".{port_file.name}.{os.getpid()}")
        beside.write_text(f"{port}\n")
        beside.replace(port_file)
    sys.stdout.write(f"listening on http://{host}:{port}\n")
    sys.stdout.flush()
    await server.serve(listening, stop)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
