"""Run one kernel under any arithmetic. Properties speak to kernels only through a `Harness`.

The interpreter is imported when it is first needed: on a GPU it must not be there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from ...specs.arithmetic.field import NEG_INF, FieldArray, exp, has_logarithm, random, unpack
from ...specs.inputs.make import Inputs, generate
from ...specs.oracle.recurrence import respond, solve
from ...specs.problem import Problem
from ..cases.call_styles import words
from ..cases.replay import Case
from ..process.lost_device import noticed
from ..ptx.schedules import QUICK, Schedule
from ..ptx.verdict import PtxVerdict
from ..verdicts.judgement import is_compiled
from ..verdicts.outcome import Inapplicable, KernelRaised, Unsupported
from ..verdicts.plural import counted
from . import execute
from .compiled import launched
from .styles import styled

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRun:
    """Outputs as elements of the field, and the (file, line) of every cast that would have lost fp32 bits, and of every
    product that would have rounded its fp32 operands."""

    outputs: dict[str, FieldArray]
    narrowings: tuple[tuple[str, int], ...]
    rounded_dots: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundsRun:
    """The findings of the memory checks: accesses that are not allowed, elements never written by output, overwritten inputs.

    changed: outputs that depend on the memory beside the inputs, where accesses cannot be watched.
    """

    faults: tuple[Any, ...]
    unwritten: dict[str, int]
    damaged: tuple[str, ...]
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """A kernel to judge, the others of its target to compare with, and the threshold of the error budgets.

    device: "cpu" runs kernels in the interpreter; "cuda" runs them as compiled, in their own arithmetic only; so does
    "sm_90", on the CPU, where every launch must keep the rules of `verify.ptx`.
    transform: changes the syntax trees of kernels before they are interpreted (`interpreter.session`).
    """

    kernel: Any
    kernels: Mapping[str, Any] = field(default_factory=dict)
    tau: float = 1.0
    device: str = "cpu"
    transform: Callable[[str, Any], Any] | None = None

    @property
    def simulated(self) -> str:
        """The architecture of a GPU that is not there, "" where kernels run in the interpreter or on a GPU."""
        return self.device if is_compiled(self.device) else ""

    def with_kernel(self, kernel: Any) -> Harness:
        """The same harness around another kernel."""
        return replace(self, kernel=kernel)

    def faithful(self, case: Case, inputs: Inputs, *, gradients: bool = False) -> dict[str, np.ndarray]:
        """Outputs as fp32 arrays, computed as a GPU would round. Raises KernelRaised, for an access out of bounds too."""
        if self.device not in ("cpu", self.simulated):
            with noticed(self.device):
                made = execute.tensors(case.problem, inputs, place=self._placed)
                return execute.as_numpy(execute.run(self.kernel, case, made, gradients=gradients))
        made = execute.tensors(case.problem, inputs)
        return execute.as_numpy(self.watched(lambda: execute.run(self.kernel, case, made, gradients=gradients)))

    def launches(self, case: Case, inputs: Inputs, schedules: Sequence[Schedule]) -> list[PtxVerdict]:
        """Verdicts of all launches of one call, forward and backward, on a GPU that is not there. Raises KernelRaised."""
        made = execute.tensors(case.problem, inputs)
        wanted = self.kernel.differentiable
        return launched(self.device, lambda: execute.run(self.kernel, case, made, gradients=wanted), schedules)[1]

    def watched(self, call: Callable[[], T]) -> T:
        """The result of `call`; where there is no GPU, its kernels round as one would. Raises KernelRaised."""
        if self.simulated:
            return launched(self.device, call)[0]  # pyright: ignore[reportArgumentType, reportReturnType]
        if self.device != "cpu":
            with noticed(self.device):
                return call()
        from ..interpreter import session

        with session(arithmetic="faithful", memory=True, transform=self.transform) as watched:
            outputs = call()
        require_in_bounds(self._forbidden(watched.faults))
        return outputs

    def exact(self, case: Case, inputs: Inputs, *, gradients: bool | None = None) -> ExactRun:
        """Outputs in the field; with gradients wherever the kernel has them, unless told otherwise.

        Raises Unsupported if the kernel left the algebra, KernelRaised if it raised within it or left its bounds.
        """
        wanted = self.kernel.differentiable if gradients is None else gradients
        if self.simulated:
            from ..ptx.exact import tensor
            from .compiled_exactly import exact_launched

            if self.kernel.foreign:
                raise Inapplicable("exact arithmetic on compiled code is for our own kernels")
            made = execute.tensors(case.problem, inputs, carrier=tensor)
            outputs = exact_launched(self.device, lambda: execute.run(self._trusting(), case, made, gradients=wanted))
            return ExactRun(outputs=outputs, narrowings=(), rounded_dots=())
        from ..interpreter import session

        if case.problem.dtype != "fp32":
            raise Unsupported("exact arithmetic runs the fp32 instantiation")
        made = execute.tensors(case.problem, inputs)
        kernel = self._trusting()
        with session(arithmetic="exact", memory=True, transform=self.transform) as exact:
            try:
                outputs = execute.run(kernel, case, made, gradients=wanted)
            except KernelRaised as error:
                if exact.unsupported:
                    raise Unsupported(_reasons(exact.unsupported)) from error
                raise
        require_in_bounds(self._forbidden(exact.faults))
        if exact.unsupported:
            raise Unsupported(_reasons(exact.unsupported))
        return ExactRun(
            outputs={name: unpack(bits) for name, bits in execute.payloads(outputs).items()},
            narrowings=tuple(dict.fromkeys(exact.narrowings)),
            rounded_dots=tuple(dict.fromkeys(exact.rounded_dots)),
        )

    def styled(self, case: Case, inputs: Inputs, others: Inputs, *, exact: bool) -> list[styled.StyledOutputs]:
        """Every answer of a call in its style. Raises Unsupported if the kernel left the algebra, KernelRaised."""
        from ..interpreter import session

        made, other = (styled.made_for(case, some) for some in (inputs, others))
        if "compiled" in words(case.style):
            return styled.run(self.kernel, case, made, other)  # torch's compiler traces nothing in a session
        arithmetic = "exact" if exact else "faithful"
        with session(arithmetic=arithmetic, memory=True, transform=self.transform) as watched:
            try:
                answers = styled.run(self._trusting() if exact else self.kernel, case, made, other)
            except KernelRaised as error:
                if watched.unsupported:
                    raise Unsupported(_reasons(watched.unsupported)) from error
                raise
        require_in_bounds(self._forbidden(watched.faults))
        if watched.unsupported:
            raise Unsupported(_reasons(watched.unsupported))
        return answers

    def bounds(self, case: Case, inputs: Inputs) -> BoundsRun:
        """Run forward, and backward where there is one, with every buffer guarded. Raises KernelRaised."""
        if self.simulated:
            self.launches(case, inputs, QUICK)
            return self._strays(case, inputs)
        if self.device != "cpu":
            with noticed(self.device):
                return self._strays(case, inputs)
        from ..interpreter import session

        made = execute.tensors(case.problem, inputs)
        with session(memory=True, races=True, check_overflow=True, transform=self.transform) as guarded:
            safe = {name: guarded.guard(tensor, name=name) for name, tensor in made.items()}
            try:
                outputs = execute.run(self.kernel, case, safe, gradients=self.kernel.differentiable)
            except KernelRaised:
                if not self._forbidden(guarded.faults):
                    raise
                outputs = {}  # the fault explains the exception, not the other way round
        # Only now: inside the session, looking at tensors would make guarded tensors.
        return BoundsRun(
            faults=tuple(self._forbidden(guarded.faults)),
            unwritten={name: count for name, tensor in outputs.items() if (count := guarded.unwritten(tensor))},
            damaged=tuple(guarded.damaged()),
        )

    def _strays(self, case: Case, inputs: Inputs) -> BoundsRun:
        from .red_zones import strays

        made = execute.tensors(case.problem, inputs, place=None if self.simulated else self._placed)
        reference = solve if self.kernel.differentiable else respond
        run: Any = self.watched if self.simulated else lambda call: call()
        found = strays(
            lambda some: run(lambda: execute.run(self.kernel, case, some, gradients=self.kernel.differentiable)),
            made,
            # The reference of the error budgets, without the many noisy runs of one.
            lambda: {name: torch.from_numpy(np.isnan(x)) for name, x in reference(case.problem, inputs).items()},
        )
        return BoundsRun(faults=(), unwritten=found.unwritten, damaged=found.damaged, changed=found.changed)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device, with all of its storage: `Tensor.to` would leave out the gaps between its rows."""
        whole = tensor.as_strided([tensor.untyped_storage().nbytes() // tensor.element_size()], [1], 0)
        return whole.to(self.device).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def offsets(self, case: Case) -> tuple[Any, ...]:
        """Faults of the last program of every launch on tensors of the problem's size, which no memory needs to hold.

        Raises Unsupported where not even addresses can be had for them, KernelRaised.
        """
        from ..interpreter import session

        try:
            made = execute.reserved(case.problem)
            with session(memory=True, last_program=True, check_overflow=True, transform=self.transform) as watched:
                # A check of the values would look at every one of them.
                execute.run(self._trusting(), case, made, gradients=self.kernel.differentiable)
        except (RuntimeError, KernelRaised) as error:
            if "can't allocate memory" not in str(error):
                raise
            raise Unsupported("there is no address space for tensors of this size") from error
        return tuple(watched.faults)

    def unreached(self, small: Case, large: Case) -> str | None:
        """A tensor whose end the small call writes and the large one, of more tokens, does not; in words, or None.

        The last program of each launch tells, by a few trips of its loops; all programs then confirm its suspicion. Raises
        KernelRaised.
        """
        before, after = self._reached(small), self._reached(large)
        if [one.kernel for one in before] != [one.kernel for one in after]:
            return None  # another sequence of launches: there is nothing to compare
        suspects = {o.kernel for o, n in zip(before, after, strict=True) if _short(o, n)}
        after = self._reached(large, suspects) if suspects else []
        for old, new in zip(before, after, strict=bool(suspects)):
            if new.kernel in suspects and (found := _short(old, new)):
                return f"no program of {new.kernel} stores the end of its tensor of shape {new.shapes[found[0]]}"
        return None

    def _reached(self, case: Case, whole: Collection[str] = ()) -> list[Any]:
        from ..interpreter import session
        from ..interpreter.addresses.reach import Reach

        reach = Reach()
        with session(counting=reach, last_program=True, cut_loops=True, whole=whole, transform=self.transform):
            execute.run(self._trusting(), case, execute.reserved(case.problem), gradients=self.kernel.differentiable)
        return reach.launches

    def require(self, problem: Problem) -> None:
        """Require that the kernel takes a problem made of one that it takes. Raises Inapplicable with its reason."""
        answer = self.kernel.accepts(problem)
        if answer is not True:
            raise Inapplicable(str(answer or "not accepted"))

    def _trusting(self) -> Any:
        """The kernel, told not to look at the values it is given."""
        return replace(self.kernel, run=partial(self.kernel.run, **self.kernel.trusting))

    def _forbidden(self, faults: Sequence[Any]) -> list[Any]:
        """Faults that count. A kernel may declare that it discards elements that nothing has written: they are NaN here, and show
        in the results of one that does not."""
        return [fault for fault in faults if not (self.kernel.discards_unwritten and fault.fault == "never written")]


def field_inputs(problem: Problem, *, salt: int = 0) -> Inputs:
    """Inputs of the problem's shapes, uniform over the field. A decay of -inf stays one: it is a value of its own.

    Raw gates are such that 1 + exp(raw + dt_bias) has a logarithm, so that all forms of the sigmoid agree.
    """
    floats = generate(problem)
    rng = np.random.default_rng((problem.seed, salt))
    drawn = {name: random(rng, array.shape) for name, array in floats.arrays().items()}
    if floats.g is not None and np.isneginf(floats.g).any():
        drawn["g"] = FieldArray(np.where(np.isneginf(floats.g), NEG_INF, drawn["g"].bits))
    if problem.gate_in_kernel:
        drawn["g"] = _with_logarithms(drawn["g"], drawn["dt_bias"], rng)
    return replace(floats, **drawn)


def _with_logarithms(raw: FieldArray, bias: FieldArray, rng: np.random.Generator) -> FieldArray:
    """Raw gates [B, T, G] or [B, T, G, K], drawn again until 1 + exp(raw + bias) has a logarithm: half of them have one."""
    bias = bias.reshape(raw.shape[2:])
    while not (fine := has_logarithm(exp(raw + bias) + 1.0)).all():
        raw = FieldArray(np.where(fine, raw.bits, random(rng, raw.shape).bits))
    return raw


def _short(old: Any, new: Any) -> list[int]:
    """The tensors of a launch whose end was stored, and is no more."""
    pairs = enumerate(zip(old.left, new.left, old.shapes, new.shapes, strict=True))
    return [place for place, (was, now, small, large) in pairs if not was and now and small != large]


def _reasons(operations: Sequence[str]) -> str:
    """The first of the operations that the algebra has no answer for; the others often follow from it."""
    more = len(operations) - 1
    return f"exact arithmetic has no {operations[0]}" + (f" (and {more} more)" if more else "")


def require_in_bounds(faults: Sequence[Any]) -> None:
    """An access out of bounds is a memory fault under any property: the kernel read a value that is not its own and that would
    differ the next time. Raises KernelRaised."""
    if faults:
        first = faults[0]
        message = f"{counted(len(faults), 'forbidden access')}; the first: {first}"
        raise KernelRaised(message, "memory", cause=f"{first.fault} at {first.file}:{first.line}")
