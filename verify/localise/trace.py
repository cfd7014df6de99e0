"""Run a failing case again with every launch observed and judged, and keep the verdicts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...specs.inputs.make import generate
from ..cases.replay import Case
from ..execution.harness import ExactRun, Harness, field_inputs
from ..interpreter.watching import Seen, watching
from ..verdicts.outcome import Inapplicable, KernelRaised, Unsupported
from .stages import LaunchVerdict, functions_of, judge_launch

FURTHER = 32
"""Launches that are judged after the first that is wrong, for what they share with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The launches of one run, in order, each judged. outputs: of the run by name, field elements or floats; None if there
    are none: the run was a property's own, or did not come to an end. exact: outputs are of an exact run."""

    launches: Sequence[Seen]
    verdicts: Sequence[LaunchVerdict]
    outputs: Mapping[str, Any] | None
    exact: bool = False

    @property
    def first_wrong(self) -> LaunchVerdict | None:
        return next((verdict for verdict in self.verdicts if verdict.status == "wrong"), None)

    @property
    def in_exact(self) -> bool:
        """Whether every launch ran in exact arithmetic."""
        return all(seen.arithmetic == "exact" for seen in self.launches)

    @property
    def all_right(self) -> bool:
        return bool(self.verdicts) and all(verdict.status == "right" for verdict in self.verdicts)

    def stages(self, status: str) -> list[str]:
        """Names of the stages with verdicts of a status, in order, once each."""
        return list(dict.fromkeys(verdict.stage for verdict in self.verdicts if verdict.status == status))

    @property
    def device_functions(self) -> dict[str, frozenset[str]]:
        """The names ("module:function") of each stage's kernel and of all that it calls, by stage."""
        return {seen.name.removesuffix("_kernel"): functions_of(seen.function) for seen in self.launches}

    def shared(self) -> list[str]:
        """Device functions that every wrong stage calls and no right one does, if several stages are wrong."""
        called: dict[str, list[frozenset[str]]] = {"right": [], "wrong": []}
        for seen, verdict in zip(self.launches, self.verdicts, strict=False):
            if verdict.status in called:
                called[verdict.status].append(functions_of(seen.function))
        suspects = frozenset.intersection(*called["wrong"]).difference(*called["right"])
        return sorted(name.rpartition(":")[2] for name in suspects if not name.startswith("triton."))


def exact(case: Case, harness: Harness) -> Trace:
    """The plain call and its gradients in exact arithmetic, in fp32."""
    in_fp32 = replace(case, problem=replace(case.problem, dtype="fp32"))
    return _trace(lambda: harness.exact(in_fp32, field_inputs(in_fp32.problem)), harness.tau)


def faithful(case: Case, harness: Harness) -> Trace:
    """The plain call and its gradients as a GPU rounds."""
    gradients = harness.kernel.differentiable
    return _trace(lambda: harness.faithful(case, generate(case.problem), gradients=gradients), harness.tau)


def of_property(check: Callable[[Case], object], case: Case, harness: Harness) -> Trace:
    """All that a property runs to judge the case."""
    return _trace(lambda: check(case), harness.tau)


def _trace(run: Callable[[], object], tau: float) -> Trace:
    launches: list[Seen] = []
    answer: Any = None
    with watching(launches.append), contextlib.suppress(KernelRaised, Unsupported, Inapplicable):
        answer = run()
    verdicts: list[LaunchVerdict] = []
    for seen in launches:
        verdicts.append(judge_launch(seen, tau))
        first = next((place for place, verdict in enumerate(verdicts) if verdict.status == "wrong"), len(verdicts))
        if len(verdicts) > first + FURTHER:
            break
    in_exact = isinstance(answer, ExactRun)
    outputs = answer.outputs if in_exact else answer if isinstance(answer, dict) else None
    return Trace(launches=launches, verdicts=verdicts, outputs=outputs, exact=in_exact)


def writer_of(trace: Trace, output: str) -> str | None:
    """The last kernel that wrote the tensor which became an output, found again by its contents; None if none did."""
    if trace.outputs is None or output not in trace.outputs:
        return None
    wanted = _contents(trace.outputs[output])
    if wanted.size < 2 or (wanted == wanted[0]).all():
        return trace.launches[0].name.removesuffix("_kernel") if len({x.name for x in trace.launches}) == 1 else None
    for seen in reversed(trace.launches):
        for name, tensor in seen.after.items():
            if tensor.numel() == wanted.size and tensor.is_floating_point():
                held = tensor.float().numpy()
                changed = not np.array_equal(held.view(np.uint32), seen.before[name].float().numpy().view(np.uint32))
                if changed and np.array_equal(_contents(held), wanted):
                    return seen.name.removesuffix("_kernel")
    return None


def _contents(x: Any) -> np.ndarray:
    """The bit patterns in an array, sorted: the same for any order of its axes."""
    bits = x.bits if hasattr(x, "bits") else np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return np.sort(bits, axis=None)


def broken_link(trace: Trace, case: Case) -> str | None:
    """The first launch whose input differs from the result that an earlier one left, or whose scale is not the one asked for."""
    left: dict[str, tuple[str, np.ndarray]] = {}
    for seen in trace.launches:
        stage = seen.name.removesuffix("_kernel")
        scale = seen.scalars.get("scale")
        if isinstance(scale, float) and scale != case.problem.effective_scale:
            return f"{stage} is given scale {scale:g}, where {case.problem.effective_scale:g} was asked for"
        for name, tensor in seen.before.items():
            if name in left and tensor.is_floating_point():
                source, contents = left[name]
                if tensor.numel() == contents.size and not np.array_equal(
                    tensor.float().numpy().view(np.uint32), contents
                ):
                    return f"{stage} is given another {name} than {source} left"
        for name, tensor in seen.after.items():
            bits = tensor.float().numpy().view(np.uint32) if tensor.is_floating_point() else None
            if bits is not None and not np.array_equal(bits, seen.before[name].float().numpy().view(np.uint32)):
                left[name] = stage, bits
    return None
