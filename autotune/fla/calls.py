"""Calls of FLA's ops, made on the meta device: which of its kernels they launch, under which keys, in which configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from itertools import product
from typing import Any

from ...verify.targets.tuners import LaunchChoice, launches_noted
from ..foreign.launches import BATCHES, HEADS, TOKENS, TunedKernel

OPS = {
    "gdn2": ("fla.ops.gdn2", "chunk_gdn2"),
    "kda": ("fla.ops.kda", "chunk_kda"),
    "gdn": ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule"),
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FlaCall:
    """A forward and backward pass of one op. packed: sequences are packed, and the batch is 1."""

    rule: str
    dtype: str
    size: int
    packed: bool = False
    heads: int = 16
    batch: int = 1
    tokens: int = 8192

    def __str__(self) -> str:
        return f"{self.rule} {self.dtype} K=V={self.size}{' packed' if self.packed else ''}"


def calls(rules: Sequence[str], dtypes: Sequence[str], sizes: Sequence[int]) -> list[FlaCall]:
    """The representative calls, sorted."""
    some = product(rules, dtypes, sizes, (False, True))
    return sorted(FlaCall(rule=rule, dtype=dtype, size=size, packed=packed) for rule, dtype, size, packed in some)


def siblings(call: FlaCall) -> Iterator[FlaCall]:
    """Calls of the same kernels that differ in heads, batch and length."""
    for heads, batch, tokens in product(HEADS, (1,) if call.packed else BATCHES, TOKENS):
        yield replace(call, heads=heads, batch=batch, tokens=tokens)


@lru_cache(maxsize=64)
def sites(call: FlaCall) -> tuple[TunedKernel, ...]:
    """The tuned kernels of a call, each kernel and key once. For a process that pretends to have a GPU (`installed.pretend`)."""
    found: dict[tuple[str, tuple[Any, ...]], TunedKernel] = {}
    cache = import_module("fla.ops.utils.cache")
    original = cache.CachedAutotuner.run
    recorded: list[Any] = []

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        key = cache.AutotuneKey.build(self.arg_names, self.keys, args, kwargs).autotune_key
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        launches = {}
        for config in self.prune_configs(kwargs) if len(self.configs) > 1 else ():
            recorded.clear()
            self.fn.run(*args, **kwargs, **config.all_kwargs())
            choice = LaunchChoice(
                kwargs=tuple(sorted(config.kwargs.items())), num_warps=config.num_warps, num_stages=config.num_stages,
                num_ctas=config.num_ctas,
            )  # fmt: skip
            launches[choice] = recorded[-1]
        if launches:
            found.setdefault(
                (self.kernel_name, key),
                TunedKernel(kernel=self.kernel_name, order=len(found), key=key, launches=launches),
            )

    cache.CachedAutotuner.run = run
    try:
        with launches_noted(recorded.append):
            make(call)
    finally:
        cache.CachedAutotuner.run = original
    return tuple(found.values())


def make(call: FlaCall) -> None:
    """Run a call forward and backward on tensors without content, launching through the present JITFunction.run."""
    import torch

    from ...specs.dtypes import TORCH_DTYPES

    dtype = TORCH_DTYPES[call.dtype]
    B, T, H, D = call.batch, call.tokens, call.heads, call.size

    def tensor(*channels: int, kind: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(B, T, H, *channels, device="meta", dtype=kind, requires_grad=True)

    inputs = {"q": tensor(D), "k": tensor(D), "v": tensor(D)}
    if call.rule == "gdn2":
        inputs |= {"g": tensor(D, kind=torch.float32), "b": tensor(D), "w": tensor(D)}
    elif call.rule == "kda":
        inputs |= {"g": tensor(D, kind=torch.float32), "beta": tensor()}
    else:
        inputs |= {"g": tensor(kind=torch.float32), "beta": tensor()}
    module, name = OPS[call.rule]
    lengths = torch.tensor([0, T // 2, T]) if call.packed else None
    op: Callable[..., Any] = getattr(import_module(module), name)
    o, _ = op(**inputs, use_qk_l2norm_in_kernel=True, cu_seqlens=lengths)
    torch.autograd.grad(o, list(inputs.values()), torch.empty_like(o))
