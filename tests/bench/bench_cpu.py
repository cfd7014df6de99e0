"""CPU timings of the torch path beside its peers, side by side in one run: `make bench`.

Groups are `<rule> forward` and `<rule> forward+backward`; within one, compare the minima. The peers are the reference
implementations of flash-linear-attention (the `peers` extra): chunkwise, and token by token. `make bench` has the processor
time measured (`--benchmark-timer=time.process_time`), which is that of a call as long as there is one thread.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from deltaproof.kernels.eager.chunkwise import gated_delta_rule_torch

B, T, H, K, V = 1, 1024, 4, 128, 128
THREADS = int(os.environ.get("OMP_NUM_THREADS", 1))

Op = Callable[..., torch.Tensor]

# How each peer takes our q, k, v, g, b, w.
PEERS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "gdn2": (
        "fla.ops.gdn2.naive",
        {"chunkwise peer": ("naive_chunk_gdn2", "qkvgbw"), "token-loop peer": ("naive_recurrent_gdn2", "qkvgbw")},
    ),
    "kda": (
        "fla.ops.kda.naive",
        {"chunkwise peer": ("naive_chunk_kda", "qkvgb"), "token-loop peer": ("naive_recurrent_kda", "qkvgb")},
    ),
    "gdn": (
        "fla.ops.gated_delta_rule.naive",
        {
            "chunkwise peer": ("naive_chunk_gated_delta_rule", "qkvgb"),
            "token-loop peer": ("naive_recurrent_gated_delta_rule", "qkvbg"),
        },
    ),
}


def tensors(rule: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(B, T, H, *shape, generator=generator)

    def normal(channels: int) -> torch.Tensor:
        return torch.randn(B, T, H, channels, generator=generator)

    data = {"q": F.normalize(normal(K), dim=-1), "k": F.normalize(normal(K), dim=-1), "v": normal(V)}
    if rule == "gdn2":
        return data | {"g": -0.1 * uniform(K), "b": uniform(K), "w": uniform(V)}
    return data | {"g": -0.1 * (uniform() if rule == "gdn" else uniform(K)), "b": uniform()}


def ours(q, k, v, g, b, w=None) -> torch.Tensor:
    options = {"scale": K**-0.5, "initial_state": None, "output_final_state": False, "cu_seqlens": None}
    return gated_delta_rule_torch(q, k, v, g, b, w, **options)[0]


def implementation(rule: str, who: str) -> tuple[Op, str]:
    """The callable, and the names of what it takes, in order."""
    if who == "deltaproof":
        return ours, "qkvgbw" if rule == "gdn2" else "qkvgb"
    module, functions = PEERS[rule]
    name, order = functions[who]
    try:
        function = getattr(importlib.import_module(module), name)
    except ImportError as error:
        pytest.skip(f"flash-linear-attention does not import here ({error}); it comes with deltaproof[peers]")
    return lambda *arguments: function(*arguments)[0], order


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("who", ["deltaproof", "chunkwise peer", "token-loop peer"])
@pytest.mark.parametrize("rule", PEERS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
def test_cpu(benchmark, rule: str, who: str, backward: bool):
    op, order = implementation(rule, who)
    data = tensors(rule)
    leaves = [data[name].requires_grad_(backward) for name in order]
    benchmark.group = f"{rule} {'forward+backward' if backward else 'forward'}"

    def call() -> None:
        o = op(*leaves)
        if backward:
            torch.autograd.grad(o, leaves, torch.ones_like(o))

    benchmark.pedantic(
        call, rounds=1 if backward and who == "token-loop peer" else 5, warmup_rounds=0 if backward else 1
    )
