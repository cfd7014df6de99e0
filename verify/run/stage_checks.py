"""The questions to a `Stage`: is it its reference over the field, within its error budget, within its memory, and settled?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...results.files.one_line import told
from ...specs.arithmetic.field import NEG_INF, FieldArray, constant_bits, integers, random, same
from ...specs.arithmetic.tagged import meeting
from ..execution import rounded
from ..execution.compare import residue
from ..execution.compiled import launched
from ..execution.execute import Contents
from ..execution.harness import require_in_bounds
from ..ptx.schedules import ALL, QUICK, Schedule
from ..targets.stage import Stage
from ..verdicts.judgement import is_compiled
from ..verdicts.outcome import KernelRaised, Outcome, Place, Unsupported, held
from .stage_calls import BrokenStage, Inputs, from_theirs, is_tensor, strange

Outputs = rounded.Outputs
EMPTY = "no output of the calls that `draw` made holds an element"
"""Why a call says nothing that could hold, though it may fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageJudge:
    """Asks a stage one question about one call. device: "interpreter", or an architecture whose programs run on the CPU."""

    stage: Stage
    name: str
    tau: float
    device: str

    def equality(self, inputs: Inputs, seed: int) -> Outcome:
        from ..interpreter import session

        drawn = _over_the_field(inputs, np.random.default_rng(seed))
        with meeting() as known, session(arithmetic="exact") as exact:
            try:
                expected = self._reference(**_copies(drawn))
            except BrokenStage:
                if not exact.unsupported:
                    raise
                expected = {}
        if exact.unsupported:
            raise Unsupported(f"of its reference, exact arithmetic has no {exact.unsupported[0]}")
        wanted = {name: _elements(name, x) for name, x in expected.items()}
        with meeting() as met, session(arithmetic="exact", memory=True) as exact:
            made = _copies(drawn)
            outputs = self._checked(made, expected, lambda: exact.unsupported)
        require_in_bounds(exact.faults)
        if exact.unsupported:
            raise Unsupported(f"exact arithmetic has no {exact.unsupported[0]}")
        for name in wanted:
            got = _elements(name, outputs[name])
            equal = np.asarray(same(wanted[name], got))
            if equal.all():
                continue
            if other := met - known:
                forms = " and ".join(sorted({operation for operation, _ in other}))
                raise Unsupported(f"exact arithmetic knows another form of {forms}; `error` judges this one")
            index = tuple(int(i) for i in np.argwhere(~equal)[0])
            return _failed(
                "structure", f"not its reference: {name} differs in {1 - equal.mean():.1%} of its elements", name, index,
                residue(wanted[name][index]), residue(got[index]),
            )  # fmt: skip
        _require_elements(outputs)
        return held()

    def error(self, inputs: Inputs, seed: int) -> Outcome:
        outputs = self._called(inputs)
        truth, found = rounded.ratios(self._reference, inputs, outputs)
        worst = [(float(rows.max()), name) for name, rows in found.items() if rows.size]
        ratio, name = max(worst, default=(0.0, ""))
        if ratio <= self.tau:
            _require_elements(outputs)
            return held(ratio / self.tau)
        row = np.unravel_index(int(found[name].argmax()), found[name].shape)
        exact, got = truth[name][row], outputs[name].to("cpu", torch.float64).numpy()[row]
        with np.errstate(invalid="ignore"):
            off = np.nan_to_num(np.abs(np.atleast_1d(got - exact)), nan=np.inf, posinf=np.inf)
        last = (int(off.argmax()),) if np.ndim(exact) else ()
        index = (*(int(i) for i in row), *last)
        return _failed(
            "precision", f"{name} is {ratio:.3g} sigma off, {ratio / self.tau:.3g} times its budget", name, index,
            float(exact[last]), float(got[last]), ratio / self.tau,
        )  # fmt: skip

    def memory(self, inputs: Inputs, seed: int) -> Outcome:
        if is_compiled(self.device):
            _require_elements(self._launched(inputs, QUICK)[0])
            return held()
        from ..interpreter import session

        with session(memory=True, races=True, check_overflow=True) as guarded:
            safe = {name: guarded.guard(x, name=name) if is_tensor(x) else x for name, x in inputs.items()}
            try:
                outputs = self._checked(safe, None)
            except KernelRaised:
                if not guarded.faults:
                    raise
                outputs = {}  # the fault explains the exception, not the other way round
        require_in_bounds(guarded.faults)
        if damaged := guarded.damaged():
            raise KernelRaised(f"overwritten: {'; '.join(damaged)}", "memory", cause="overwritten")
        for name, x in outputs.items():
            if left := guarded.unwritten(x):
                raise KernelRaised(f"{left} elements of {name} are never written", "memory", cause="never written")
        _require_elements(outputs)
        return held()

    def determinism(self, inputs: Inputs, seed: int) -> Outcome:
        outputs, verdicts = self._launched(inputs, ALL)
        for verdict in verdicts:
            for found in verdict.differences:
                first, second = found.schedules
                message = (
                    f"{found.count} bytes of {found.memory} that {verdict.kernel} leaves differ between the schedules "
                    f"{first!r} and {second!r}, the first at byte {found.offset}"
                )
                raise KernelRaised(message, "nondeterminism", cause=f"{verdict.kernel} {found.memory}")
        _require_elements(outputs)
        return held()

    def _called(self, inputs: Inputs) -> Outputs:
        """Its outputs, as a GPU would round them."""
        expected = self._reference(**_copies(inputs))
        if is_compiled(self.device):
            return self._launched(inputs, QUICK[:1], expected)[0]
        from ..interpreter import session

        with session(arithmetic="faithful", memory=True) as watched:
            outputs = self._checked(_copies(inputs), expected)
        require_in_bounds(watched.faults)
        return outputs

    def _launched(
        self, inputs: Inputs, schedules: tuple[Schedule, ...], expected: Outputs | None = None
    ) -> tuple[Outputs, Any]:
        made = _copies(inputs)
        return launched(self.device, lambda: self._checked(made, expected), schedules)

    def _checked(
        self, made: Inputs, expected: Outputs | None, left: Callable[[], Any] = lambda: ()
    ) -> Outputs:  # fmt: skip
        """The outputs, of the names and shapes of the reference's, with inputs left as they were. Raises KernelRaised."""
        before = Contents.of({name: x for name, x in made.items() if is_tensor(x)})
        try:
            outputs = self._outputs(self.stage.run, made)
        except KernelRaised as error:
            if left():
                raise Unsupported(f"exact arithmetic has no {left()[0]}") from error
            raise
        before.require_unchanged(self.name, made)
        if expected is None:
            return outputs
        if more := [name for name in outputs if name not in expected]:
            raise KernelRaised(f"returns {more[0]}, which its reference does not return", "contract")
        for name, x in expected.items():
            got = outputs.get(name)
            if got is None or got.shape != x.shape:
                shape = "nothing" if got is None else list(got.shape)
                raise KernelRaised(f"returns {shape} as {name}, expected {list(x.shape)}", "contract")
        return outputs

    def _outputs(self, function: Callable[..., Any], inputs: Inputs) -> Outputs:
        try:
            with torch.no_grad():
                return _named(function(**inputs))
        except (Exception, SystemExit) as error:
            raise KernelRaised(f"{self.name} raised {told(error)}", "contract") from error

    def _reference(self, **inputs: Any) -> Outputs:
        with torch.no_grad():
            return from_theirs("its reference", lambda: _named(self.stage.reference(**inputs)))


CHECKS: Mapping[str, Callable[[StageJudge, Inputs, int], Outcome]] = {
    "equality": StageJudge.equality,
    "error": StageJudge.error,
    "memory": StageJudge.memory,
    "determinism": StageJudge.determinism,
}
"""By the name of the property of the family that asks the same."""


def _failed(
    kind: Any,
    message: str,
    tensor: str,
    index: tuple[int, ...],
    expected: float,
    got: float,
    ratio: float | None = None,
) -> Outcome:
    return Outcome(
        status="failed", kind=kind, message=message, place=Place(tensor=tensor, index=index), expected=expected, got=got,
        ratio=ratio,
    )  # fmt: skip


def _require_elements(outputs: Outputs) -> None:
    """Raises Unsupported where there is nothing that was judged."""
    if not any(x.numel() for x in outputs.values()):
        raise Unsupported(EMPTY)


def _named(answer: Any) -> Outputs:
    """Outputs by name. Raises TypeError for anything but tensors of numbers, and for none."""
    if is_tensor(answer):
        answer = {"its output": answer}
    elif isinstance(answer, tuple | list):
        answer = {f"output {place}": x for place, x in enumerate(answer)}
    if not isinstance(answer, Mapping) or not answer or not all(map(is_tensor, answer.values())):
        raise TypeError("it returned no tensor, tuple of tensors or mapping of names to tensors")
    if bad := [f"{name} is {reason}" for name, x in answer.items() if (reason := strange(x))]:
        raise TypeError(bad[0])
    return {str(name): x.detach() for name, x in answer.items()}


def _elements(name: str, x: torch.Tensor) -> FieldArray:
    """An output as elements of the field. Raises Unsupported for one of 16 bits, which holds none."""
    from ..interpreter import field_array

    if not x.is_floating_point():
        return integers(x.numpy())
    if x.element_size() < 4:
        raise Unsupported(f"exact arithmetic needs fp32, and {name} is {x.dtype} where the inputs are fp32")
    return field_array(x)


def _over_the_field(inputs: Inputs, rng: np.random.Generator) -> Inputs:
    """Every float tensor as one of fp32 that carries elements drawn from the field, with 0, 1 and -inf where they were."""
    made = dict(inputs)
    for name, x in inputs.items():
        if is_tensor(x) and x.is_floating_point():
            known = x.detach().double().numpy()
            bits = random(rng, known.shape).bits
            for value, payload in ((0, np.uint32(0)), (1, constant_bits(1.0)), (-np.inf, NEG_INF)):
                bits = np.where(known == value, payload, bits)
            made[name] = _carrying(FieldArray(bits), x)
    return made


def _carrying(values: FieldArray, like: torch.Tensor) -> torch.Tensor:
    from ..interpreter import payload_tensor

    return torch.empty_like(like, dtype=torch.float32).copy_(payload_tensor(values))


def _copies(inputs: Inputs) -> Inputs:
    return {name: x.detach().clone() if is_tensor(x) else x for name, x in inputs.items()}
