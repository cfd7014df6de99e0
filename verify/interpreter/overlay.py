"""Where Triton's interpreter is patched, and restored.

A new Triton version can break this folder, and no other. The language is patched once per session; the interpreter itself does
it again in every call of a device function (tl.sum and tl.zeros among them), which costs more than the call.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import triton
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, TensorHandle

from . import shortcuts
from .addresses.hints import HINTS, hinting
from .arithmetic.protocol import Arithmetic, is_float
from .arithmetic.reductions import reducer, scanner
from .builder import HarnessBuilder
from .covering import note_loop
from .records import Records

if TYPE_CHECKING:
    from .addresses.memory import Memory

OLDEST, NEWEST = (3, 6), (3, 9)
"""Triton versions whose interpreter this package is tested with, inclusive."""

ends_of_loops: ContextVar[bool] = ContextVar("ends_of_loops", default=False)
"""Whether loops of kernels run their first two and their last two trips only."""

_PRECISIONS = ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
_MISSING = object()


def require_supported() -> None:
    """Raise RuntimeError where a session cannot work: an untested Triton, or kernels decorated for the compiler."""
    found = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if not OLDEST <= found <= NEWEST:
        tested = " to ".join(".".join(map(str, version)) for version in (OLDEST, NEWEST))
        raise RuntimeError(
            f"the interpreter harness is tested with Triton {tested}, not {triton.__version__}: install one of these"
        )
    if not isinstance(tl.sum, InterpretedFunction):
        raise RuntimeError("set TRITON_INTERPRET=1 in the environment before triton is imported: @triton.jit reads it")


@contextlib.contextmanager
def overlay(
    arithmetic: Arithmetic,
    memory: Memory | None,
    records: Records,
    *,
    run: Callable[..., None],
    call: Callable[..., Any],
    check_overflow: bool,
) -> Iterator[dict[int, Any]]:
    """Patch the interpreter while the context lasts. Yields the replacement of each function of the language, by its `id`.

    run: replaces `InterpretedFunction.run` (a launch). call: its `__call__` (a device function).
    check_overflow: make integer overflow raise (it triples the cost of integer arithmetic).
    """
    builder = triton_interpreter.interpreter_builder
    if isinstance(builder, HarnessBuilder):
        raise RuntimeError("interpreter sessions do not nest: leave the first one before opening another")
    options = dataclasses.replace(
        builder.options,
        debug=True,  # device_assert raises
        sanitize_overflow=check_overflow,
        allowed_dot_input_precisions=_PRECISIONS,
    )
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, builder, "__class__", InterpreterBuilder)
        builder.__class__ = HarnessBuilder
        for name, value in (
            ("arithmetic", arithmetic),
            ("memory", memory),
            ("records", records),
            ("grid_idx", None),
            ("grid_dim", None),
            ("options", options),
            ("codegen_fns", {**builder.codegen_fns, "min_dot_size": _min_dot_size()}),
        ):
            _patch(undo, builder, name, value)
        _patch(undo, TensorHandle, "__post_init__", lambda self: None)  # a 16-bit value may be held wider
        _patch(undo, triton_interpreter, "_get_np_dtype", _storage(arithmetic))
        _patch(undo, InterpretedFunction, "run", run)
        _patch(undo, InterpretedFunction, "__call__", call)
        yield _patch_language(undo, arithmetic, check_overflow, getattr(memory, "hint", None))


def typed_range(start: Any, stop: Any = None, step: Any = None, **_: Any) -> Iterator[tl.tensor]:
    """A loop whose index is an int32 (or int64) scalar, as in compiled code; a plain Python int never overflows."""
    bounds = (0, start, 1) if stop is None else (start, stop, 1 if step is None else step)
    wide = any(isinstance(bound, tl.tensor) and bound.dtype.primitive_bitwidth == 64 for bound in bounds)
    dtype, held = (tl.int64, np.int64) if wide else (tl.int32, np.int32)
    trips = range(*(int(getattr(bound, "value", bound)) for bound in bounds))
    note_loop(len(trips))
    for index in [*trips[:2], *trips[-2:]] if ends_of_loops.get() and len(trips) > 4 else trips:
        yield tl.tensor(TensorHandle(np.array([index], dtype=held), dtype), dtype)


def _patch_language(
    undo: contextlib.ExitStack, arithmetic: Arithmetic, check_overflow: bool, hint: Callable[[str, int], None] | None
) -> dict[int, Any]:
    replaced: dict[int, Any] = {}

    originals: dict[int, Any] = {}  # values from before the session, by the id of their replacement

    def patch(owner: Any, name: str, value: Any) -> None:
        now = getattr(owner, name, None)
        original = originals.get(id(now), now)
        if original is not None:
            replaced[id(original)] = value
        originals[id(value)] = original
        _patch(undo, owner, name, value)

    for owner in (tl, tl.core, tl.math, tl.tensor, tl.core.tensor_descriptor_base):
        for name, member in list(vars(owner).items()):
            if tl.core.is_builtin(member):
                patch(owner, name, replaced.get(id(member)) or _bound(member))
    scope: Any = SimpleNamespace(set_attr=patch)
    triton_interpreter._patch_lang_tensor(tl.tensor, scope)
    for module in (tl, tl.core):
        triton_interpreter._patch_lang_core(module, scope)
    patch(tl.tensor, "__index__", lambda self: int(self.handle.data.item()))
    for owner in (tl, tl.core, tl.tensor):
        patch(owner, "reduce", reducer(arithmetic))
        patch(owner, "associative_scan", scanner(arithmetic))
    for module in (tl, tl.core):
        patch(module, "range", typed_range)
        for name in HINTS if hint else ():
            patch(module, name, hinting(name, getattr(module, name), hint))
    shortcuts.install(patch, triton_interpreter.interpreter_builder, check_overflow)
    return replaced


def _bound(member: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the language that can be called without a compiler."""
    function, semantic = getattr(member, "__wrapped__", member), triton_interpreter.interpreter_semantic

    def call(*args: Any, **kwargs: Any) -> Any:
        kwargs["_semantic"] = semantic
        return function(*args, **kwargs)

    return call


def _storage(arithmetic: Arithmetic) -> Callable[[Any], np.dtype]:
    stock = triton_interpreter._get_np_dtype

    known: dict[str, np.dtype] = {}  # the interpreter builds its whole table at every call

    def storage(dtype: Any) -> np.dtype:
        scalar = dtype.scalar
        held = known.get(scalar.name)
        if held is None:
            held = (arithmetic.storage(scalar) if is_float(scalar) else None) or stock(scalar)
            known[scalar.name] = held
        return held

    return storage


def _min_dot_size() -> Callable[[Any, Any], tuple[int, int, int]]:
    """The smallest dot that an NVIDIA GPU takes, as this Triton says."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import min_dot_size

    return min_dot_size(GPUTarget("cuda", 90, 32))


def _patch(undo: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    # from __dict__, so that an inherited attribute is uncovered again instead of copied down
    before = vars(owner).get(name, _MISSING)
    undo.callback(delattr, owner, name) if before is _MISSING else undo.callback(setattr, owner, name, before)
    setattr(owner, name, value)
