"""What a lookup costs once a call has been seen, over many distinct calls: `pytest tests/bench/bench_lookup.py`."""

from __future__ import annotations

import random
import statistics
import time
from itertools import product

import pytest

from deltaproof.results import lookup

Call = tuple[str, str, int, int, int]

CALLS: list[Call] = [
    *product(
        ("chunk_fwd", "chunk_train"), ("gdn2", "kda", "gdn"), (64, 128, 256), range(1000, 30_000, 500), range(1, 25)
    )
]
"""op, rule, K = V, tokens, heads"""


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """More than 20,000 distinct calls in no order, each seen once before."""
    run(CALLS)
    shuffled = CALLS.copy()
    random.Random(0).shuffle(shuffled)
    return shuffled


def run(calls: list[Call]) -> None:
    for op, rule, size, tokens, heads in calls:
        lookup(op, rule=rule, dtype="bf16", K=size, V=size, tokens=tokens, heads=heads, gpu="H100")


def test_hits(benchmark, calls: list[Call]):
    """Time of one round over all calls; divide by their number."""
    benchmark.extra_info["calls per round"] = len(calls)
    benchmark.pedantic(run, args=(calls,), rounds=15, warmup_rounds=1)


def test_a_hit_takes_less_than_a_microsecond(calls: list[Call]):
    """The median over distinct calls, of each the best of nine passes: what other processes do does not count."""
    best, clock = [10**9] * 4000, 10**9
    for _ in range(9):
        for index, (op, rule, size, tokens, heads) in enumerate(calls[: len(best)]):
            before = time.perf_counter_ns()
            start = time.perf_counter_ns()
            lookup(op, rule=rule, dtype="bf16", K=size, V=size, tokens=tokens, heads=heads, gpu="H100")
            best[index] = min(best[index], time.perf_counter_ns() - start)
            clock = min(clock, start - before)
    median = statistics.median(best) - clock
    print(f"median over {len(best)} distinct calls: {median:.0f} ns, and {clock} ns to read the clock")
    assert median < 1000
