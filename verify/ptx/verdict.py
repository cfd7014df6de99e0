"""A launch under several schedules: the findings, and whether results agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .assembly.program import Program
from .finding import Finding
from .loops import CountedLoop, loops
from .machine import Argument, DeviceMemory, run
from .schedules import QUICK, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A memory whose bytes two schedules leave different. offset: of the first such byte; first, second: 8 bytes there."""

    memory: str
    count: int
    offset: int
    schedules: tuple[str, str]
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PtxVerdict:
    """The findings of all schedules. program: digest of the program that ran, or empty. traffic, loops: counts of the first;
    warps: of a program; seconds: of CPU time for all."""

    kernel: str
    program: str = ""
    findings: list[Finding] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    traffic: dict[str, int] = field(default_factory=dict)
    loops: tuple[CountedLoop, ...] = ()
    warps: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.note]

    @property
    def notes(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.note]

    @property
    def unsupported(self) -> list[Finding]:
        """The faults that name something the engine cannot run: a launch with one was not judged."""
        return [finding for finding in self.findings if finding.rule == "unsupported"]


def judge(
    program: Program, arguments: Sequence[Argument], memories: Sequence[DeviceMemory], grid: tuple[int, int, int],
    schedules: Sequence[Schedule] = QUICK, *, step_limit: int = 50_000_000, stop_at_fault: bool = False,
) -> PtxVerdict:  # fmt: skip
    """Run a launch under every schedule, each on a copy of the memories. They end up as the first schedule leaves them.

    Raises the errors of `machine.run`.
    """
    import time

    start = [memory.content.copy() for memory in memories]
    started = time.process_time()
    found: list[Finding] = []
    differences: list[Difference] = []
    first, end = None, start
    for number, schedule in enumerate(schedules):
        copies = [replace(memory, content=content.copy()) for memory, content in zip(memories, start, strict=True)]
        result = run(program, arguments, copies, grid, schedule, count_traffic=not number, step_limit=step_limit)
        found += result.findings
        if first is None:
            first, end = result, [copy.content for copy in copies]
        elif not first.stopped and not result.stopped:
            differences += _differences(memories, end, [copy.content for copy in copies], schedules[0], schedule)
        if stop_at_fault and any(not finding.note for finding in found):
            break
    for memory, content in zip(memories, end, strict=True):
        memory.content[:] = content
    assert first is not None, "at least one schedule"
    findings = merged(found)
    if differences and not any(not finding.note for finding in findings):
        findings.append(_unexplained(program, differences, findings))
    return PtxVerdict(
        kernel=program.kernel.name, findings=findings, differences=differences, traffic=first.traffic,
        loops=loops(program.kernel, first.executed), warps=program.warps, seconds=time.process_time() - started,
    )  # fmt: skip


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """One finding for each rule and pair of source lines, faults first; its count is of all."""
    found: dict[tuple[str, str, str, str], Finding] = {}
    for finding in findings:
        place = (finding.source or finding.instruction, finding.other_source or finding.other_instruction)
        key = (finding.rule, finding.kernel, *place)
        known = found.get(key)
        found[key] = finding if known is None else replace(known, count=known.count + finding.count)
    return sorted(found.values(), key=lambda finding: finding.note)


def _differences(
    memories: Sequence[DeviceMemory],
    one: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    first: Schedule,
    second: Schedule,
) -> list[Difference]:
    found = []
    for memory, a, b in zip(memories, one, other, strict=True):
        if memory.checked and (where := np.flatnonzero(a != b)).size:
            at = int(where[0]) // 8 * 8
            found.append(
                Difference(
                    memory=memory.name,
                    count=int(where.size),
                    offset=at,
                    schedules=(first.name, second.name),
                    first=a[at : at + 8].tobytes(),
                    second=b[at : at + 8].tobytes(),
                )
            )
    return found


def _unexplained(program: Program, differences: list[Difference], findings: list[Finding]) -> Finding:
    """Results that differ where no rule is broken: undefined values, or the order of atomics, which sums of floats show."""
    worst = max(differences, key=lambda difference: difference.count)
    detail = f"{worst.count} bytes of {worst.memory} differ between {worst.schedules[0]} and {worst.schedules[1]}"
    atomics = [s for s in program.kernel.statements if s.parts[0] in ("atom", "red")]
    if atomics:
        return Finding(
            rule="result-order",
            kernel=program.kernel.name,
            source=atomics[0].source,
            instruction=atomics[0].text,
            detail=detail,
        )
    return Finding(rule="result-unwritten", kernel=program.kernel.name, detail=detail)
