"""One kernel launch: its arguments as compiled code sees them, and its grid of programs."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import InterpretedFunction, TensorHandle

from .arithmetic.protocol import Arithmetic
from .records import Place, in_kernel

Program = tuple[int, int, int]

MOST_PROGRAMS = (2**31 - 1, 2**16 - 1, 2**16 - 1)
"""Along each axis of a grid (CUDA C++ Programming Guide, technical specifications per compute capability)."""


MOST_TO_RUN = 2**16
"""The most programs of a launch that are run so that later launches can read their results."""

WARPS = 4
"""Of a program whose launch does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLaunch:
    """A launch whose arguments have been checked and bound.

    function: the runnable kernel. arguments: by name, as the caller gave them. constants: which of them are constexprs.
    warps: of each program.
    """

    name: str
    function: Callable[..., Any]
    grid: Program
    arguments: dict[str, Any]
    constants: frozenset[str]
    warps: int

    @property
    def device_arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments.items() if name not in self.constants}

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf for value in self.arguments.values() for leaf in _leaves(value)]

    @property
    def says_where(self) -> bool:
        """Whether all tensors hold integers, as of a kernel that tells later ones which part of the others is whose, and its
        programs are few enough to run them all."""
        some = self.tensors
        return bool(some) and not any(x.is_floating_point() for x in some) and math.prod(self.grid) <= MOST_TO_RUN

    @property
    def last_programs(self) -> list[Program]:
        """The last program; none if the grid is empty."""
        x, y, z = self.grid
        return [(x - 1, y - 1, z - 1)] if x * y * z else []

    @property
    def programs(self) -> list[Program]:
        return [(x, y, z) for x in range(self.grid[0]) for y in range(self.grid[1]) for z in range(self.grid[2])]


def bind(
    kernel: InterpretedFunction, function: Callable[..., Any], grid: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> CheckedLaunch:
    """Check and bind the arguments of `kernel[grid](*args, **kwargs)`.

    Raises TypeError for a name that is neither an argument nor a launch option, or an argument that is missing;
    ValueError for an option or a grid that no GPU takes, and for tensors that are not on the CPU.
    """
    _check_options(
        kernel.__name__, kernel.arg_names, {name: x for name, x in kwargs.items() if name not in kernel.arg_names}
    )
    given = {name: value for name, value in kwargs.items() if name in kernel.arg_names}
    arguments = inspect.getcallargs(kernel.fn, *args, **given)
    for hook in kernel.pre_run_hooks:
        hook(*args, **given)
    launch = CheckedLaunch(
        name=kernel.__name__,
        function=function,
        grid=_grid(kernel.__name__, grid(arguments) if callable(grid) else grid),
        arguments=arguments,
        constants=_constants(kernel.fn),
        warps=kwargs.get("num_warps", WARPS),
    )
    for tensor in launch.tensors:
        if tensor.device.type != "cpu":
            raise ValueError(f"{kernel.__name__}: the interpreter takes CPU tensors, and one is on {tensor.device}")
    return launch


def execute(launch: CheckedLaunch, programs: Iterable[Program], arithmetic: Arithmetic) -> None:
    """Run some programs of a launch, one after the other.

    Raises InterpreterError, which names kernel, program and source line, where the kernel raises.
    """
    arguments = {name: _device_value(value, arithmetic) for name, value in launch.device_arguments.items()}
    arguments |= {name: launch.arguments[name] for name in launch.constants}
    builder: Any = triton_interpreter.interpreter_builder
    builder.grid_dim = launch.grid
    program: Program = (0, 0, 0)
    try:
        with np.errstate(all="ignore"):
            for program in programs:
                builder.grid_idx = program
                launch.function(**arguments)
    except Exception as error:
        file, line = _place_of(error)
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InterpreterError(f"{launch.name}, program {program}, {file}:{line}: {said}") from error
    finally:
        builder.grid_idx = builder.grid_dim = None


def _device_value(value: Any, arithmetic: Arithmetic) -> Any:
    """An argument as compiled code sees it: a Python float is an fp32 scalar, a tensor a pointer."""
    if isinstance(value, bool):
        return tl.tensor(TensorHandle(np.array([value]), tl.int1), tl.int1)
    if isinstance(value, float):
        return tl.tensor(TensorHandle(arithmetic.constant(value, tl.float32), tl.float32), tl.float32)
    if isinstance(value, tuple):
        return triton_interpreter._tuple_create(value, [_device_value(item, arithmetic) for item in value])
    return triton_interpreter._implicit_cvt(value)


def _leaves(value: Any) -> list[torch.Tensor]:
    """The tensors in an argument: itself, the base of a wrapper or of a tensor descriptor, or members of a tuple."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return _leaves(value.base) if hasattr(value, "base") else []


@functools.cache
def _constants(fn: Callable[..., Any]) -> frozenset[str]:
    return frozenset(
        name
        for name, annotation in inspect.get_annotations(fn).items()
        if annotation is tl.constexpr or (isinstance(annotation, str) and "constexpr" in annotation)
    )


@functools.cache
def _known_options() -> frozenset[str]:
    """Launch options of any GPU that this Triton compiles for."""
    from triton.backends.amd.compiler import HIPOptions
    from triton.backends.nvidia.compiler import CUDAOptions

    return frozenset(option.name for backend in (CUDAOptions, HIPOptions) for option in dataclasses.fields(backend))


def _check_options(kernel: str, names: list[str], options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in _known_options():
            raise TypeError(
                f"{kernel}: {name!r} is neither an argument ({', '.join(names)}) "
                "nor a launch option (num_warps, num_stages, ...)"
            )
        if name in ("num_warps", "num_ctas") and (value < 1 or value & (value - 1)):
            raise ValueError(f"{kernel}: {name} must be a power of two, not {value}")


def _grid(kernel: str, grid: Any) -> Program:
    sizes = tuple(int(size) for size in (grid if isinstance(grid, (tuple, list)) else (grid,)))
    if not 1 <= len(sizes) <= 3 or min(sizes) < 0:
        raise ValueError(f"{kernel}: a grid has one to three sizes of at least 0, not {grid}")
    x, y, z = (*sizes, 1, 1)[:3]
    for axis, size, most in zip("xyz", (x, y, z), MOST_PROGRAMS, strict=True):
        if size > most:
            raise ValueError(f"{kernel}: {size} programs along {axis}, where a GPU takes at most {most}")
    return x, y, z


def _place_of(error: BaseException) -> Place:
    """The innermost kernel line in the traceback of an error."""
    place: Place = ("?", 0)
    step = error.__traceback__
    while step is not None:
        if in_kernel(step.tb_frame):
            place = (step.tb_frame.f_code.co_filename, step.tb_lineno)
        step = step.tb_next
    return place
