"""`session`: run unmodified Triton kernels on the CPU under a chosen arithmetic, with or without a memory check."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator
from typing import Any, Literal

import torch
import triton.language as tl
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.interpreter import InterpretedFunction, TensorHandle

from ...specs.arithmetic import field
from .addresses.allocations import Allocations, PlacedAllocations, unwritten
from .addresses.memory import Memory, MemoryFault
from .addresses.reach import Reach
from .addresses.traffic import Counting
from .addresses.unfilled import Unfilled
from .arithmetic.exact import Exact
from .arithmetic.faithful import Faithful
from .arithmetic.protocol import Arithmetic
from .arithmetic.shadow import Shadow
from .covering import note_launch
from .launch import bind, execute
from .overlay import ends_of_loops, overlay, require_supported
from .records import Place, Records
from .rewrite import Rewriter, Transform
from .tensors import ExactTensors
from .watching import observed


class Session:
    """The findings of a session, and the tensors it guards. Everything stays readable after the session has ended."""

    def __init__(self, records: Records, memory: Memory | None) -> None:
        self._records = records
        self._memory = memory
        self._allocations = Allocations()

    @property
    def unsupported(self) -> list[str]:
        """Operations outside the algebra of the exact arithmetic, with their places. With any, results say nothing."""
        return self._records.unsupported

    @property
    def narrowings(self) -> list[Place]:
        """(file, line) of casts to a narrower type that an exact session met; their values went on unharmed."""
        return self._records.narrowings

    @property
    def rounded_dots(self) -> list[Place]:
        """(file, line) of float32 dots whose input precision is not ieee."""
        return self._records.rounded_dots

    @property
    def intrinsics(self) -> list[str]:
        """Device functions that an exact session replaced, by name, by the formula that the name stands for."""
        return self._records.intrinsics

    @property
    def faults(self) -> list[MemoryFault]:
        """Accesses that no kernel may make, one entry per sort and source line; empty without `memory=True`."""
        return [] if self._memory is None else self._memory.faults

    def guard(self, tensor: torch.Tensor, *, name: str | None = None, writable: bool = False) -> torch.Tensor:
        """A copy of a CPU tensor in red-zoned memory, strides and `requires_grad` kept; an input, unless `writable`."""
        with _disable_current_modes():
            return self._allocations.guard(tensor, name=name or f"guarded {tuple(tensor.shape)}", writable=writable)

    def unwritten(self, tensor: torch.Tensor) -> int:
        """How many elements of a poisoned tensor have never been written."""
        with _disable_current_modes():
            return unwritten(tensor)

    def damaged(self) -> list[str]:
        """Red zones that were overwritten, and guarded inputs that were modified."""
        with _disable_current_modes():
            return self._allocations.damage()


@contextlib.contextmanager
def session(
    arithmetic: Literal["faithful", "exact"] = "faithful",
    memory: bool = False,
    *,
    counting: Counting | Reach | None = None,
    races: bool = False,
    last_program: bool = False,
    cut_loops: bool = False,
    whole: Collection[str] = (),
    check_overflow: bool = False,
    transform: Transform | None = None,
) -> Iterator[Session]:
    """Triton kernels launched in this context run under the given arithmetic.

    arithmetic: "faithful" rounds as a GPU does. In "exact", float32 tensors carry payloads (`payload_tensor`), in
        kernels and in torch's operations between them.
    memory: check every access against the tensors of its launch; poison and red-zone torch's allocations.
    counting: counts the bytes that every launch touches, or how far its stores reach; checks addresses too, but places nothing
        that torch allocates.
    races: with `memory`, also look for elements on which programs of a launch race.
    last_program: run only the last program of each launch, and fill no large tensor, so that tensors may be larger than
        the memory there is; with `memory`, addresses are checked, and their contents are not.
    cut_loops: with `last_program`, run the first two and the last two trips of each loop only.
    whole: of the kernels of these names, run all programs and all trips in any case; so of kernels whose tensors all
        hold integers, since others take addresses from them.
    check_overflow: integer overflow raises.
    transform: changes the syntax tree of every kernel before it runs.

    Raises RuntimeError for a Triton version that was not tested, for a nested session, and where TRITON_INTERPRET=1
    was not set before triton was imported.
    """
    require_supported()
    records, shadow = Records(), Shadow()
    rules: Arithmetic = Exact(records, shadow) if arithmetic == "exact" else Faithful()
    checker = counting or (Memory(races=races, contents=not last_program) if memory else None)
    state = Session(records, checker)

    def run(kernel: InterpretedFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        if warmup:
            return
        launch = bind(kernel, rewrite(kernel), grid, args, kwargs)
        note_launch(kernel.fn, launch)
        if checker is not None:
            checker.begin(launch.name, launch.tensors, launch.warps)
        with observed(arithmetic, kernel.fn, launch, checker):
            if last_program and launch.name not in whole and not launch.says_where:
                token = ends_of_loops.set(cut_loops)
                try:
                    execute(launch, launch.last_programs, rules)
                finally:
                    ends_of_loops.reset(token)
            else:
                execute(launch, launch.programs, rules)

    def call(function: InterpretedFunction, *args: Any, **kwargs: Any) -> Any:
        formula = rules.override(function.__name__)
        if formula is None:
            return rewrite(function)(*args, **kwargs)
        (x,) = inspect.getcallargs(function.fn, *args, **kwargs).values()
        return tl.tensor(TensorHandle(formula(x.handle), x.dtype), x.type)

    with contextlib.ExitStack() as stack:
        patches = overlay(rules, checker, records, run=run, call=call, check_overflow=check_overflow)
        rewrite = Rewriter(stack.enter_context(patches), transform)
        if memory and not last_program:
            stack.enter_context(PlacedAllocations(state._allocations))
        if last_program:
            stack.enter_context(Unfilled())
        if arithmetic == "exact":
            stack.enter_context(ExactTensors(records, shadow))
            stack.callback(field.forget_logits)
        yield state
