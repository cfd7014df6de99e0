"""A kernel's launches as compiled for a GPU that is not there: a fault that the engine finds is an error of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ptx.architectures import architecture
from ..ptx.finding import Finding
from ..ptx.launch import judging
from ..ptx.schedules import LAST_FIRST, Schedule
from ..ptx.verdict import PtxVerdict
from ..verdicts.judgement import Kind
from ..verdicts.outcome import KernelRaised, Unsupported
from .execute import Tensors

ADVERSARIAL: tuple[Schedule, ...] = (LAST_FIRST,)
"""The schedules of a call unless a property is about schedules: asynchronous work happens as late as it may."""

_MEMORY = ("-bounds", "-alignment", "wild-address", "result-unwritten", "descriptor")
_LAUNCH = ("deadlock", "endless", "divergent-barrier", "masked-collective", "trap", "memory")


def launched(
    device: str, call: Callable[[], Tensors], schedules: Sequence[Schedule] = ADVERSARIAL
) -> tuple[Tensors, list[PtxVerdict]]:
    """The result of a call on CPU tensors, and the verdicts of its launches.

    Raises KernelRaised for the first fault, Unsupported for an instruction that the engine does not know.
    """
    with judging(architecture(device), schedules) as verdicts:
        try:
            outputs = call()
        except KernelRaised:
            # The broken rule explains the exception that followed from it.
            require_clean(verdicts)
            raise
    require_clean(verdicts)
    return outputs, verdicts


def require_clean(verdicts: Sequence[PtxVerdict]) -> None:
    """Require that no launch breaks a rule. Raises KernelRaised, Unsupported."""
    faults = [fault for verdict in verdicts for fault in verdict.faults]
    for fault in faults:
        if fault.rule == "unsupported":
            raise Unsupported(f"{fault.kernel}: {fault.detail or fault.instruction} is not known to the engine")
    if faults:
        # A finding of a run says more than one of the text.
        first = min(faults, key=lambda fault: fault.rule.startswith("lint-"))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise KernelRaised(f"{first}{more}", _kind(first), cause=f"{first.rule} at {first.source or first.instruction}")


def _kind(finding: Finding) -> Kind:
    if finding.rule in _LAUNCH:
        return "launch"
    return "memory" if any(word in finding.rule for word in _MEMORY) else "nondeterminism"
