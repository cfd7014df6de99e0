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
