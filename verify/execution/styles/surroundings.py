"""The surroundings of a call, which are none of its arguments: a thread, autocast, another default dtype, torch's compiler."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode, _push_mode

if TYPE_CHECKING:
    from ....kernels.registry import Kernel

T = TypeVar("T")

REFUSABLE = frozenset(("autocast", "fp64_default", "compiled"))
"""Words of call styles that a function need not take: it is right in them, or it raises."""


@contextlib.contextmanager
def surrounded(chosen: Sequence[str]) -> Iterator[None]:
    """The forward pass of a call in these words."""
    before = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        if "autocast" in chosen:
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        if "fp64_default" in chosen:
            stack.callback(torch.set_default_dtype, before)
            torch.set_default_dtype(torch.float64)
        yield


def compiled(kernel: Kernel) -> Kernel:
    """The kernel, traced by torch's compiler when it is called; the traced code runs as it would without."""
    return replace(kernel, run=torch.compile(kernel.run, backend="eager", dynamic=False))


def in_a_thread(call: Callable[[], T], chosen: Sequence[str]) -> T:
    """The result of `call`, run in a thread of its own if "threads" is chosen: in the same session, and nothing else the same."""
    if "threads" not in chosen:
        return call()
    # Of a thread: torch's modes and whether it keeps graphs. Kernels know the session by a context.
    modes, gradients, context = _get_current_dispatch_mode_stack(), torch.is_grad_enabled(), contextvars.copy_context()
    found: list[T] = []
    raised: list[Exception] = []

    def work() -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(gradients))
            for mode in modes:
                _push_mode(mode)
                stack.callback(_pop_mode)
            try:
                found.append(call())
            except Exception as error:
                raised.append(error)

    thread = threading.Thread(target=context.run, args=(work,))
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]
