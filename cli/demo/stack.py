"""Runs the demo's stack with its own home and port.

OPENAI_API_KEY or OPENAI_BASE_URL set    that provider and the caller's penstock.toml
neither                                  the simulator with typical errors
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from schemas.errors import PenstockError
from stack.home import Home, HomeInUse, free_port, write_private
from stack.process import CHECKOUT, RunningStack, running_stack, started

BUILDER = CHECKOUT / "examples" / "build_batch.py"
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 12_000, 40_000_000
BUDGET_USD = 100

SCENARIOS: Mapping[str, float] = {
    "throttle": 0.005,
    "500": 0.02,
    "fenced": 0.05,
    "commentary": 0.05,
    "wrong_type": 0.03,
    "missing_field": 0.03,
    "truncation": 0.01,
    "refusal": 0.005,
    "reset_before": 0.01,
}
"""Share of calls per scenario."""


def calls_a_real_provider(env: Mapping[str, str]) -> bool:
    """Whether calls cost money."""
    return bool(env.get("OPENAI_API_KEY") or env.get("OPENAI_BASE_URL"))


def build_batch(home: Path, *, count: int, model: str) -> Path:
    """Build the batch file with the script in `examples`."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "demo-batch.jsonl"
    built = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(BUILDER), "-o", str(file), "--count", str(count), "--model", model],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise PenstockError(f"the batch could not be built: {built.stderr.strip() or built.stdout.strip()}")
    return file


@contextmanager
def running(home: Path, env: Mapping[str, str]) -> Iterator[RunningStack]:
    """Run the stack, with a simulator unless the provider is real."""
    if Home(home).holder_pid() is not None:
        raise HomeInUse(f"another demo runs in {home.absolute()}; stop it, or choose another folder with --home")
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as endings:
        chosen = dict(env) if calls_a_real_provider(env) else _simulated(home, env, endings)
        yield endings.enter_context(running_stack(home, chosen))


def _simulated(home: Path, env: Mapping[str, str], endings: ExitStack) -> dict[str, str]:
    """Start the simulator and return the environment of a stack that calls it."""
    port = free_port()
    limits = f"requests_per_minute = {REQUESTS_PER_MINUTE}\ntokens_per_minute = {TOKENS_PER_MINUTE}\n"
    scenarios = "".join(f"{json.dumps(name)} = {share}\n" for name, share in SCENARIOS.items())
    budget = f'[[budgets]]\nscope = "global"\nwindow = "day"\nlimit_usd = "{BUDGET_USD}"\n'
    provider, config = home / "demo-simulator.toml", home / "demo.toml"
    write_private(provider, f"{limits}\n[scenarios]\n{scenarios}")
    write_private(config, f'[models."gpt-4.1-mini"]\n{limits}\n[aliases]\nsmall = ["gpt-4.1-mini"]\n\n{budget}')
    started(
        ["-m", "simulator", "--port", str(port), "--config", str(provider.absolute())],
        env=env,
        log_path=home / "demo-simulator.log",
        endings=endings,
    )
    return dict(env) | {
        "PENSTOCK_CONFIG": str(config.absolute()),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": "simulator",
    }
