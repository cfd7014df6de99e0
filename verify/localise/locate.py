"""Where a failure comes from: the first stage that is wrong for its own inputs, what is wrong, and what it takes, in words.

The failing case runs again with every launch observed. A launch whose kernel has an oracle is judged alone, on the tensors
that it was given, so that an error which only passes through is not blamed. Exact arithmetic comes first, since it knows no
tolerance; then whatever the property itself runs, then the plain call as a GPU rounds. A kernel that shows no stages is
described by the pattern of its wrong outputs, and by the last kernel that wrote the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...specs.rule import RELATIVES
from ..cases.replay import Case
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome
from .needs import needs
from .oracles import MEANING
from .outputs import Masks, describe, exact_masks, faithful_masks

if TYPE_CHECKING:
    from .trace import Trace

Check = Callable[[Case], Outcome]
HOST = "host"
"""Stands for a stage where every launch is right and the answer is not: the code between and around the launches."""
CALLS = 24
"""Simpler cases that are asked for what one failure needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Localised:
    """stage: of our kernels by name, of others the kernel function at fault; HOST; or None if nothing points anywhere.

    story: why that stage, and more. It does not say that this is the first at fault: whoever shows `stage` does.
    ran: the stages that there were to choose from, each with the device functions that it runs ("module:function").
    """

    stage: str | None
    story: str
    ran: Mapping[str, frozenset[str]] = field(default_factory=dict)


def localise(check: Check, case: Case, outcome: Outcome, harness: Harness, *, calls: int = CALLS) -> Localised:
    """Localise the failure of `check` (a property on this harness) on a case. Costs a few runs of the case, and of so many
    simpler ones."""
    found = _Found() if harness.device != "cpu" else _by_stages(check, case, harness)
    sentences = list(found.sentences)
    chunk = None if case.config is None else case.config.chunk_size
    if pattern := describe(case.problem, found.masks, chunk):
        sentences.append(pattern)
    elif outcome.place is not None:
        sentences.append(f"It shows in {outcome.place}.")
    required = needs(case, lambda other: _fails(check, other, outcome, harness), calls)
    if required:
        sentences.append(f"It needs {_and(required)}.")
    return Localised(stage=found.stage, story=" ".join(sentences), ran=found.ran)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """stage, and what there is to say about it; masks: where outputs are wrong; ran: as in `Localised`."""

    stage: str | None = None
    sentences: Sequence[str] = ()
    masks: Masks = field(default_factory=dict)
    ran: Mapping[str, frozenset[str]] = field(default_factory=dict)


def _by_stages(check: Check, case: Case, harness: Harness) -> _Found:
    """Run the case in one way after the other until one shows something."""
    from .trace import broken_link, exact, faithful, of_property, writer_of

    runs: list[Callable[[], Trace]] = [lambda: of_property(check, case, harness)]
    if case.problem.rule.name not in RELATIVES:  # whose call is not that of a rule
        runs = [lambda: exact(case, harness), *runs, lambda: faithful(case, harness)]
    masks: Masks = {}
    traces: list[Trace] = []
    for run in runs:
        trace = run()
        traces.append(trace)
        masks = masks or _masks(trace, case, harness)
        ran = trace.device_functions
        if trace.first_wrong is not None:
            about = _about_stage(
                trace, [stage for known in traces if known.in_exact for stage in known.stages("right")]
            )
            return _Found(stage=trace.first_wrong.stage, sentences=about, masks=masks, ran=ran)
        if masks and trace.outputs is not None and trace.all_right:
            about = [_about_host(trace.stages("right"), broken_link(trace, case))]
            return _Found(stage=HOST, sentences=about, masks=masks, ran=ran)
    for trace in traces:
        if reader := next((verdict for verdict in trace.verdicts if verdict.unwritten), None):
            about = f"Stage {reader.stage} reads what nothing has written, and no stage before it left anything out"
            about = [f"{about}: {reader.unwritten}."]
            return _Found(stage=reader.stage, sentences=about, masks=masks, ran=trace.device_functions)
    first = next((name for name, mask in masks.items() if mask.any()), None)
    for trace in traces:
        if first is not None and (writer := writer_of(trace, first)):
            about = [f"{first}, the first output that is wrong, was last written by {writer}."]
            return _Found(stage=writer, sentences=about, masks=masks, ran=trace.device_functions)
    right = next((trace.stages("right") for trace in traces if trace.all_right), [])
    return _Found(masks=masks, sentences=[f"Each of {_and(right)} is right for its own inputs."] if right else [])


def _masks(trace: Trace, case: Case, harness: Harness) -> Masks:
    """Where the outputs of a run are wrong; empty if they are right, or there are none."""
    if trace.outputs is None:
        return {}
    masks = (exact_masks if trace.exact else faithful_masks)(case, harness, trace.outputs)
    return masks if any(mask.any() for mask in masks.values()) else {}


def _about_stage(trace: Trace, right_in_exact: Sequence[str]) -> list[str]:
    found = trace.first_wrong
    assert found is not None
    text = f"Stage {found.stage} is wrong for the inputs that it received"
    if found.oracle is not None:
        text += f"; it {found.oracle.does} ({found.oracle.equation})"
    text += f": {found.reason}"
    if found.tensor is not None:
        meaning = f", {MEANING[found.tensor]}" if found.tensor in MEANING else ""
        text += f", first at {found.tensor}[{', '.join(map(str, found.index or ()))}]{meaning}"
    sentences = [text + "."]
    if found.in_sigma and found.stage in right_in_exact:
        sentences.append("Exact arithmetic finds no fault in it, so it is the rounding, not the formula.")
    right = [stage for stage in trace.stages("right") if stage not in trace.stages("wrong")]
    if right:
        sentences.append(f"Right for the inputs that they received: {_and(right)}.")
    others = [stage for stage in trace.stages("wrong") if stage != found.stage]
    if others:
        sentences.append(f"Wrong for the inputs that they received, too: {_and(others)}.")
        if shared := trace.shared():
            sentences.append(f"The faulty stages share {_and(shared)}, which no passing stage calls: start there.")
    return sentences


def _about_host(right: Sequence[str], link: str | None) -> str:
    text = f"Each of {_and(right)} gives what it should for the inputs it gets: the fault lies between or around the launches"
    return f"{text}: {link}." if link else f"{text}, in what host code packs, passes on or adds up."


def _fails(check: Check, case: Case, outcome: Outcome, harness: Harness) -> bool:
    """Whether a simpler case still fails in the same way. One that cannot be judged says nothing: as if it did."""
    if harness.kernel.accepts(case.problem) is not True:
        return True
    other = check(case)
    return other.status in ("unsupported", "inapplicable") or (other.status, other.kind) == (
        outcome.status,
        outcome.kind,
    )


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
