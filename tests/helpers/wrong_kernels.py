"""Wrong kernels: each is a right one with one thing spoilt. Whatever judges kernels must reject them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

from deltaproof.kernels import KERNELS, Kernel

STAGED, SPLIT, TOKENS = KERNELS["chunk_train/staged"], KERNELS["chunk_fwd/split"], KERNELS["recurrent/tokens"]
TORCH = KERNELS["chunk_train/torch"]


def spoil(kernel: Kernel, change: Callable[..., Any], name: str = "test/wrong") -> Kernel:
    """The kernel with `change(run, arguments)` in place of `run(**arguments)`."""
    return replace(kernel, name=name, run=lambda **arguments: change(kernel.run, arguments))


def on_output(change: Callable[[torch.Tensor, dict[str, Any]], torch.Tensor]) -> Callable[..., Any]:
    """Spoil o only."""

    def run(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        o, ht = right(**arguments)
        return change(o, arguments), ht

    return run


class _Bend(torch.autograd.Function):
    """The identity, with a gradient of another making."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore
        return ctx.change(gradient), None


def on_gradient(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """Spoil the gradient of one argument."""

    def run(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        x = arguments[name]
        bent = arguments if x is None else {**arguments, name: _Bend.apply(x, change)}
        return right(**bent)

    return run


@triton.jit
def _touch_kernel(x, D, BLOCK: tl.constexpr):
    at = tl.program_id(0) * D + tl.arange(0, BLOCK)
    tl.store(x + at, tl.load(x + at, mask=tl.arange(0, BLOCK) < D), mask=tl.arange(0, BLOCK) < D)


def narrow_offsets(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Every row of q read and written back, its offset a 32-bit product."""
    q = arguments["q"].clone() if arguments["q"].numel() < 2**20 else torch.empty_like(arguments["q"])
    _touch_kernel[(q.numel() // q.shape[-1],)](q, q.shape[-1], BLOCK=triton.next_power_of_2(q.shape[-1]))
    return right(**arguments)


def _add(x, o, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(o + at, tl.load(x + at, mask=at < n, other=0), mask=at < n)


def tuned(**hooks: Any) -> Callable[..., Any]:
    """o added into zeros by an autotuned kernel with two configurations; hooks: of the tuner."""
    configs = [triton.Config({"BLOCK": size}) for size in (16, 32)]
    kernel: Any = triton.autotune(configs, key=["n"], **hooks)(triton.jit(_add))

    def change(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        added = torch.zeros_like(o)
        kernel[lambda meta: (triton.cdiv(o.numel(), meta["BLOCK"]),)](o, added, o.numel())
        return added

    return on_output(change)


def second_configuration(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    """o copied by an autotuned kernel whose grid fits its first configuration only."""
    copied = torch.zeros_like(o)
    _COPY[(triton.cdiv(o.numel(), 32),)](o, copied, o.numel())
    return copied


@triton.autotune([triton.Config({"BLOCK": size}) for size in (32, 16)], key=["n"])
@triton.jit
def _COPY(x, o, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(o + at, tl.load(x + at, mask=at < n), mask=at < n)


def _copied_by(*sizes: int, prune: Any = None) -> Callable[..., Any]:
    """o copied by an autotuned kernel with these blocks, of which 18 does not come to the end of a block."""
    configs = [triton.Config({"BLOCK": 32, "STEP": size}) for size in sizes]
    pruning = {"early_config_prune": prune} if prune else None
    kernel: Any = triton.autotune(configs, key=["n"], prune_configs_by=pruning)(triton.jit(_copy_in_steps))

    def change(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        copied = torch.zeros_like(o)
        kernel[(triton.cdiv(o.numel(), 32),)](o, copied, o.numel())
        return copied

    return on_output(change)


def _copy_in_steps(x, o, n, BLOCK: tl.constexpr, STEP: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = (at < n) & (tl.arange(0, BLOCK) < BLOCK // STEP * STEP)
    tl.store(o + at, tl.load(x + at, mask=mask), mask=mask)


def without(size: int) -> Callable[..., Any]:
    """Prunes the configurations of this step."""
    return lambda configs, named, **kwargs: [one for one in configs if one.kwargs["STEP"] != size]


def _asks_a_driver(configs: Any, named: Any, **kwargs: Any) -> Any:
    raise RuntimeError("0 active drivers ([]). There should only be one.")


MIDDLE = _copied_by(32, 18, 16)
PRUNED = [_copied_by(18, 32, 16, prune=without(18)), _copied_by(32, 18, 16, prune=without(18))]
UNPRUNED = _copied_by(32, 16, prune=_asks_a_driver)
"""o copied by kernels with a wrong configuration, between two right ones or pruned; and with right ones that no driver prunes."""


def _copy_channels(x, o, V, BLOCK: tl.constexpr):
    at = tl.program_id(0) * V + tl.arange(0, BLOCK)
    tl.store(o + at, tl.load(x + at, mask=tl.arange(0, BLOCK) < V), mask=tl.arange(0, BLOCK) < V)


def by_channels(*, key: list[str], pruned: bool = True) -> Callable[..., Any]:
    """o copied by an autotuned kernel with a block for few channels, pruned where they are many, and one for many."""
    prune = {"early_config_prune": lambda configs, named, **_: [x for x in configs if x.kwargs["BLOCK"] >= named["V"]]}
    configs = [triton.Config({"BLOCK": size}) for size in (256, 64)]
    kernel: Any = triton.autotune(configs, key=key, prune_configs_by=prune if pruned else None)(
        triton.jit(_copy_channels)
    )

    def change(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        copied = torch.zeros_like(o)
        if o.numel():
            kernel[(o.numel() // o.shape[-1],)](o.contiguous(), copied, o.shape[-1])
        return copied

    return on_output(change)


@triton.jit
def _copy_row(x, o, n, BLOCK: tl.constexpr):
    first = tl.program_id(1).to(tl.int64) * n
    for at in range(0, n, BLOCK):
        column = at + tl.arange(0, BLOCK)
        tl.store(o + first + column, tl.load(x + first + column, mask=column < n), mask=column < n)


def by_rows(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    """o, copied by a program for each sequence, along the second axis of a grid."""
    copied = torch.empty_like(o)
    if o.numel():
        _copy_row[(1, o.shape[0])](o, copied, o[0].numel(), BLOCK=64)  # pyright: ignore[reportArgumentType]
    return copied


@triton.jit
def _copy_tokens(x, o, n, T, LIMIT: tl.constexpr, BLOCK: tl.constexpr):
    """[T, n], a block of tokens for each program, whose loop goes over the numbers of a token."""
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = (t < T) & (t < LIMIT)
    for at in range(n):
        tl.store(o + t * n + at, tl.load(x + t * n + at, mask=live), mask=live)


def limited(tokens: int, blocks: int = 2**30) -> Callable[..., Any]:
    """o, of which so many tokens are copied, by so many programs at most."""

    def change(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        copied = torch.empty_like(o)
        T = o.shape[0] * o.shape[1]
        _copy_tokens[(min(blocks, triton.cdiv(T, 512)),)](o, copied, o[0, 0].numel(), T, LIMIT=tokens, BLOCK=512)  # pyright: ignore[reportArgumentType]
        return copied

    return on_output(change)


@triton.jit
def _copy_in_turn(x, o, n, blocks, BLOCK: tl.constexpr):
    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        at = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # pyright: ignore[reportAttributeAccessIssue]
        tl.store(o + at, tl.load(x + at, mask=at < n), mask=at < n)


def in_turn(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    """o, right, copied by a fixed number of programs, so that the last of them need not come to its end."""
    copied, blocks = torch.empty_like(o), triton.cdiv(o.numel(), 64)
    _copy_in_turn[(min(blocks, 132),)](o, copied, o.numel(), blocks, BLOCK=64)  # pyright: ignore[reportArgumentType]
    return copied


def at_token(o: torch.Tensor, token: int, factor: float) -> torch.Tensor:
    """o, scaled at one token of every sequence."""
    if o.shape[1] <= token:
        return o
    return torch.cat([o[:, :token], o[:, token : token + 1] * factor, o[:, token + 1 :]], 1)


def _die(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    os.abort()


def _hang(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    while True:
        pass


CRASHING = {"test/dies": spoil(TOKENS, _die, "test/dies"), "recurrent/tokens": TOKENS}
"""A target whose first kernel takes its process down."""


def _killed(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Dies as a process does that another has killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_once(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """The same, in the first process that comes here; the folder is the test's."""
    try:
        Path(os.environ["DELTAPROOF_TEST_FOLDER"], "died").touch(exist_ok=False)
    except FileExistsError:
        return right(**arguments)
    return _killed(right, arguments)


KILLED = {"test/killed": spoil(TOKENS, _killed, "test/killed")}
KILLED_ONCE = {"test/killed": spoil(TOKENS, _killed_once, "test/killed")}
"""Targets whose kernels are killed from outside."""

HANGING = {"test/hangs": spoil(TOKENS, _hang, "test/hangs")}
"""A target whose kernel never answers."""

DOUBLED = {"test/doubled": spoil(TOKENS, on_output(lambda o, _: o * 2), "test/doubled")}
"""A target with one wrong kernel."""
