"""Measures error and time of prompt estimates over generated prompts of 13 kinds.

Run by `python -m bench.tokens.estimates`. Each prompt is predicted, then learned. True counts come from the simulator's
rule of four characters, from the tests' own counter, and from real vocabularies where the package bpe-openai, which
ships them, is installed. Real prompts are more varied than these, so the order of the rows means more than their
figures.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec

from bench.tokens.prompts import Document, documents
from bench.tokens.tokenizer import tokens_in
from providers.tokens.bound import prompt_bound
from providers.tokens.estimates import Estimates
from schemas.job import Target
from schemas.jsons import JsonObject

DOCUMENTS, CALIBRATING, SEED = 3_000, 500, 11
FRAME_TOKENS = 7
TARGET = Target(account="bench", model="m")
Rule = Callable[[str], int]


def rules() -> Iterator[tuple[str, Rule]]:
    """Yield the rules by which a provider might count."""
    yield "four characters", lambda text: -(-len(text) // 4)
    yield "pieces", tokens_in
    if find_spec("bpe_openai"):
        for name in ("cl100k_base", "o200k_base"):
            yield name, _vocabulary(name)


def _vocabulary(name: str) -> Rule:
    encoding = import_module("bpe_openai").get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


def body_of(document: Document) -> JsonObject:
    """Return a chat request with this text."""
    return {"model": "m", "messages": [{"role": "user", "content": document.text}]}


def judged(name: str, rule: Rule, found: list[Document]) -> str:
    """Return one line: errors after so many calls, and the margin's coverage and cost."""
    estimates = Estimates(lambda _: None)
    errors: list[float] = []
    over: list[float] = []
    covered: list[bool] = []
    first: list[float] = []
    kinds: dict[str, list[float]] = {}
    likely_sum, true_sum = 0.0, 0
    for number, document in enumerate(found):
        body, true = body_of(document), rule(document.text) + FRAME_TOKENS
        estimate = estimates.estimate(TARGET, body, prompt_bound(body))
        assert estimate.measured is not None
        likely = estimates.likely(estimate.measured)
        error = abs(likely - true) / true
        if number < CALIBRATING // 10:
            first.append(error)
        if number >= CALIBRATING:
            errors.append(error)
            kinds.setdefault(document.kind, []).append(error)
            covered.append(estimate.tokens >= true)
            over.append(estimate.tokens / true - 1)
            likely_sum, true_sum = likely_sum + likely, true_sum + true
        estimates.learn(estimate.measured, true)
    worst = max(kinds, key=lambda kind: statistics.mean(kinds[kind]))
    return (
        f"{name:16} {statistics.mean(first):8.1%} {statistics.mean(errors):8.1%} {likely_sum / true_sum - 1:+8.1%} "
        f"{statistics.quantiles(errors, n=20)[-1]:8.1%} {statistics.mean(covered):8.3f} {statistics.mean(over):8.1%} "
        f"{worst} {statistics.mean(kinds[worst]):.1%}"
    )


def ratio_of_bytes(name: str, rule: Rule, found: list[Document]) -> str:
    """Return the errors of a quarter of the bytes, and of the byte bound."""
    rest = found[CALIBRATING:]
    true = [rule(document.text) + FRAME_TOKENS for document in rest]
    bounds = [prompt_bound(body_of(document)) for document in rest]
    quarter = statistics.mean(abs(bound / 4 - tokens) / tokens for bound, tokens in zip(bounds, true, strict=True))
    times = sum(bounds) / sum(true)
    return f"{name:16} a quarter of the bound is off by {quarter:.1%}; the bound is {times:.1f} times the truth"


def cost(found: list[Document]) -> str:
    """Return microseconds per call, for prompts of about 2 kB and for one of 2 MB."""
    estimates = Estimates(lambda _: None)
    bodies = [body_of(document) for document in found if document.kind in {"english", "json", "code", "de"}]
    size = statistics.mean(len(body["messages"][0]["content"].encode()) for body in bodies)
    started = time.perf_counter()
    seen = [estimates.estimate(TARGET, body, 10**9).measured for body in bodies]
    measured_us = (time.perf_counter() - started) / len(bodies) * 1e6
    started = time.perf_counter()
    for measured in seen:
        assert measured is not None
        estimates.learn(measured, 500)
    learned_us = (time.perf_counter() - started) / len(bodies) * 1e6
    started = time.perf_counter()
    estimates.estimate(TARGET, {"messages": [{"role": "user", "content": "a long text, " * 160_000}]}, 10**9)
    long_ms = (time.perf_counter() - started) * 1e3
    short = f"estimate {measured_us:.0f} us, learn {learned_us:.0f} us at {size:.0f} bytes"
    return f"{short}; estimate {long_ms:.1f} ms at 2 MB"


def main() -> None:
    """Measure and print."""
    found = list(documents(DOCUMENTS, SEED))
    lines = [
        f"{'counted by':16} {'first 50':>8} {'MAPE':>8} {'bias':>8} {'p95':>8} {'covered':>8} {'over':>8} worst kind"
    ]
    lines += [judged(name, rule, found) for name, rule in rules()]
    lines += [ratio_of_bytes(name, rule, found) for name, rule in rules()]
    sys.stdout.write("\n".join([*lines, cost(found)]) + "\n")


if __name__ == "__main__":
    main()
