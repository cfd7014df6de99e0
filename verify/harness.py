"""Run one kernel under any arithmetic. Properties speak to kernels only through a `Harness`.

The interpreter is imported when it is first needed: on a GPU it must not be there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..specs.field import NEG_INF, FieldArray, random, unpack
from ..specs.inputs import Inputs, generate
from ..specs.problem import Problem
from . import execute
from .case import Case
from .outcome import KernelRaised, Unsupported


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRun:
    """Outputs as elements of the field, and the (file, line) of every cast that would have lost fp32 bits."""

    outputs: dict[str, FieldArray]
    narrowings: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundsRun:
    """What the memory checks saw: accesses that are not allowed, elements never written by output, overwritten inputs."""

    faults: tuple[Any, ...]
    unwritten: dict[str, int]
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """A kernel to judge, the others of its target to compare with, and the threshold of the error budgets.

    device: "cpu" runs kernels in the interpreter; "cuda" runs them as compiled, in their own arithmetic only.
    transform: changes the syntax trees of kernels before they are interpreted (`interpreter.session`).
    """

    kernel: Any
    kernels: Mapping[str, Any] = field(default_factory=dict)
    tau: float = 1.0
    device: str = "cpu"
    transform: Callable[[str, Any], Any] | None = None

    def with_kernel(self, kernel: Any) -> Harness:
        """The same harness around another kernel."""
        return replace(self, kernel=kernel)

    def faithful(self, case: Case, inputs: Inputs, *, gradients: bool = False) -> dict[str, np.ndarray]:
        """Outputs as fp32 arrays, computed as a GPU would round. Raises KernelRaised, for an access out of bounds too."""
        if self.device != "cpu":
            made = execute.tensors(case.problem, inputs, place=lambda tensor: tensor.to(self.device))
            return execute.as_numpy(execute.run(self.kernel, case, made, gradients=gradients))
        from .interpreter import session

        made = execute.tensors(case.problem, inputs)
        with session(arithmetic="faithful", memory=True, transform=self.transform) as watched:
            outputs = execute.run(self.kernel, case, made, gradients=gradients)
        _require_in_bounds(watched.faults)
        return execute.as_numpy(outputs)

    def exact(self, case: Case, inputs: Inputs, *, gradients: bool | None = None) -> ExactRun:
        """Outputs in the field; with gradients wherever the kernel has them, unless told otherwise.

        Raises Unsupported if the kernel left the algebra, KernelRaised if it raised within it or left its bounds.
        """
        from .interpreter import session

        if case.problem.dtype != "fp32":
            raise Unsupported("exact arithmetic runs the fp32 instantiation")
        made = execute.tensors(case.problem, inputs)
        wanted = self.kernel.differentiable if gradients is None else gradients
        kernel = replace(self.kernel, run=partial(self.kernel.run, **self.kernel.trusting))
        with session(arithmetic="exact", memory=True, transform=self.transform) as exact:
            try:
                outputs = execute.run(kernel, case, made, gradients=wanted)
            except KernelRaised as error:
                if exact.unsupported:
                    raise Unsupported("; ".join(dict.fromkeys(exact.unsupported))) from error
                raise
        _require_in_bounds(exact.faults)
        if exact.unsupported:
            raise Unsupported("; ".join(dict.fromkeys(exact.unsupported)))
        return ExactRun(
            outputs={name: unpack(bits) for name, bits in execute.payloads(outputs).items()},
            narrowings=tuple(dict.fromkeys(exact.narrowings)),
        )

    def bounds(self, case: Case, inputs: Inputs) -> BoundsRun:
        """Run forward, and backward where there is one, with every buffer guarded. Raises KernelRaised."""
        from .interpreter import session

        made = execute.tensors(case.problem, inputs)
        watching = {"memory": True, "races": True, "check_overflow": True}
        with session(arithmetic="faithful", transform=self.transform, **watching) as guarded:
            safe = {name: guarded.guard(tensor, name=name) for name, tensor in made.items()}
            try:
                outputs = execute.run(self.kernel, case, safe, gradients=self.kernel.differentiable)
            except KernelRaised:
                if not guarded.faults:
                    raise
                outputs = {}  # the fault explains the exception, not the other way round
        # Only now: inside the session, looking at tensors would make guarded tensors.
        return BoundsRun(
            faults=tuple(guarded.faults),
            unwritten={name: count for name, tensor in outputs.items() if (count := guarded.unwritten(tensor))},
            damaged=tuple(guarded.damaged()),
        )


def field_inputs(problem: Problem, *, salt: int = 0) -> Inputs:
    """Inputs of the problem's shapes, uniform over the field. A decay of -inf stays one: it is a value of its own."""
    floats = generate(problem)
    rng = np.random.default_rng((problem.seed, salt))
    drawn = {name: random(rng, array.shape) for name, array in floats.arrays().items()}
    if floats.g is not None and np.isneginf(floats.g).any():
        drawn["g"] = FieldArray(np.where(np.isneginf(floats.g), NEG_INF, drawn["g"].bits))
    return replace(floats, **drawn)


def _require_in_bounds(faults: Sequence[Any]) -> None:
    """An access out of bounds is a memory fault whatever was being judged: what it read was not the kernel's to read, and
    would be something else the next time. Raises KernelRaised."""
    if faults:
        raise KernelRaised(f"{len(faults)} accesses out of bounds; the first: {faults[0]}", "memory")
