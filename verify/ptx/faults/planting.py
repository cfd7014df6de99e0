"""Faults planted in compiled programs, which the rules or the numbers must catch."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..assembly.assemble import assemble
from ..assembly.program import Program
from ..assembly.text import PtxKernel, Statement
from ..device import DeviceLaunch, simulated
from ..errors import PtxError
from ..launch import bind
from ..machine import Argument, DeviceMemory, run
from ..schedules import ALL, Schedule, random_schedules
from .equivalent import reason

Change = Callable[[Statement, random.Random], Statement | None]


def _nothing(statement: Statement) -> Statement:
    return replace(statement, opcode="nanosleep.u32", operands=("0",), predicate="")


def _dropped(prefix: str) -> Change:
    return lambda s, _: _nothing(s) if s.opcode.startswith(prefix) else None


def _shifted(s: Statement, _: random.Random) -> Statement | None:
    if not re.match(r"(?:ld|st)\.shared|ldmatrix|stmatrix", s.opcode):
        return None
    at = next(i for i, operand in enumerate(s.operands) if operand.startswith("["))
    found = re.match(r"\[\s*([%\w$]+)(?:\s*\+\s*(-?\d+))?\s*\]", s.operands[at])
    if found is None:
        return None
    operands = list(s.operands)
    operands[at] = f"[{found[1]}+{int(found[2] or 0) + 16}]"
    return replace(s, operands=tuple(operands))


def _swapped(s: Statement, rng: random.Random) -> Statement | None:
    if not s.opcode.startswith(("ldmatrix", "wgmma.mma", "mma.")):
        return None
    groups = [i for i, operand in enumerate(s.operands) if operand.startswith("{")]
    at = groups[-1] if s.opcode.startswith("wgmma") else groups[0]
    names = [name.strip() for name in s.operands[at].strip("{} ").split(",")]
    if len(names) < 2:
        return None
    i, j = rng.sample(range(min(4, len(names))), 2)
    if names[i] == names[j]:
        return None
    names[i], names[j] = names[j], names[i]
    operands = list(s.operands)
    operands[at] = "{" + ", ".join(names) + "}"
    return replace(s, operands=tuple(operands))


def _unguarded(s: Statement, _: random.Random) -> Statement | None:
    return replace(s, predicate="") if s.predicate and s.opcode.startswith("st.global") else None


def _other_swizzle(s: Statement, _: random.Random) -> Statement | None:
    """Descriptors are put together from an address and a large constant, whose upper two bits are the swizzle."""
    if s.parts[0] not in ("or", "add", "mov"):
        return None
    for at, operand in enumerate(s.operands):
        if re.fullmatch(r"-?\d{18,20}", operand) and (value := int(operand) % 2**64) >> 62:
            changed = value ^ (3 << 62) if value >> 62 != 3 else value ^ (1 << 62)
            return replace(s, operands=(*s.operands[:at], str(changed), *s.operands[at + 1 :]))
    return None


def _other_distance(s: Statement, _: random.Random) -> Statement | None:
    if not s.opcode.startswith("shfl.sync") or not s.operands[2].isdigit():
        return None
    return replace(s, operands=(*s.operands[:2], str(int(s.operands[2]) // 2 or 2), *s.operands[3:]))


def _other_comparison(s: Statement, _: random.Random) -> Statement | None:
    if s.parts[0] != "setp" or s.parts[1] not in (other := {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt"}):
        return None
    return replace(s, opcode=".".join(("setp", other[s.parts[1]], *s.parts[2:])))


_ZERO = "0f00000000"


def _without_addend(s: Statement, _: random.Random) -> Statement | None:
    if s.opcode != "fma.rn.f32" or s.operands[3] == _ZERO:
        return None
    return replace(s, operands=(*s.operands[:3], _ZERO))


def _waits_less(prefix: str) -> Change:
    def change(s: Statement, _: random.Random) -> Statement | None:
        return replace(s, operands=(str(int(s.operands[0]) + 1),)) if s.opcode.startswith(prefix) else None

    return change


KINDS: dict[str, Change] = {
    "a barrier dropped": _dropped("bar.sync"),
    "wgmma.wait_group dropped": _dropped("wgmma.wait_group"),
    "fence.proxy.async dropped": _dropped("fence.proxy.async"),
    "wgmma.fence dropped": _dropped("wgmma.fence"),
    "a shared address off by 16": _shifted,
    "two fragment registers swapped": _swapped,
    "a store without its predicate": _unguarded,
    "another swizzle in a descriptor": _other_swizzle,
    "another distance in a shuffle": _other_distance,
    "lt and le exchanged": _other_comparison,
    "an fma without its addend": _without_addend,
    "cp.async.wait_group one more": _waits_less("cp.async.wait_group"),
    "wgmma.wait_group one more": _waits_less("wgmma.wait_group"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedLaunch:
    """A launch that faults are planted in: its program as it is, arguments and memories at the start, grid."""

    name: str
    program: Program
    shared: int
    arguments: Sequence[Argument]
    memories: Sequence[DeviceMemory]
    grid: tuple[int, int, int]

    def run(
        self, program: Program, schedule: Schedule, limit: int
    ) -> tuple[set[str], set[str], list[np.ndarray], np.ndarray]:
        """Faults and notes by rule, the memories after, and how often each statement was executed."""
        copies = [replace(memory, content=memory.content.copy()) for memory in self.memories]
        result = run(program, self.arguments, copies, self.grid, schedule, step_limit=limit)
        faults = {finding.rule for finding in result.findings if not finding.note}
        notes = {finding.rule for finding in result.findings if finding.note}
        return faults, notes, [copy.content for copy in copies], result.executed

    def conflicts(self, program: Program, schedule: Schedule) -> set[tuple[str, str, str]]:
        """Rule and both instructions of all that is found, notes included, where equal bits are no excuse."""
        copies = [replace(memory, content=memory.content.copy()) for memory in self.memories]
        found = run(program, self.arguments, copies, self.grid, schedule, strict=True).findings
        return {(finding.rule, finding.instruction, finding.other_instruction) for finding in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One planted fault and its outcome.

    rules: those that fired and do not without the fault, under the first schedule that shows any. numbers: whether results differ
    in any bit under any schedule before that one. shown: why it is no fault at all, where that is known.
    """

    kind: str
    subject: str
    statement: int
    before: str
    after: str
    rules: tuple[str, ...]
    notes: tuple[str, ...]
    numbers: bool
    shown: str = ""

    @property
    def caught(self) -> bool:
        return bool(self.rules) or self.numbers


def subjects_of(call: Callable[[], object], arch: int, name: str) -> list[PlantedLaunch]:
    """The launches that a call makes on CPU tensors, each with the contents of its memories before it."""
    found: list[PlantedLaunch] = []

    def keep(launch: DeviceLaunch) -> None:
        shared = launch.kernel.metadata.shared
        program = assemble(launch.ptx, shared)
        arguments, memories = bind(launch, program)
        before = [replace(memory, content=memory.content.copy()) for memory in memories]
        found.append(
            PlantedLaunch(
                name=f"{name}/{launch.name}/{len(found)}",
                program=program,
                shared=shared,
                arguments=arguments,
                memories=before,
                grid=launch.grid,
            )
        )
        run(program, arguments, memories, launch.grid, check=False)

    with simulated(arch, keep):
        call()
    return found


SCHEDULES = (*ALL, *random_schedules(2, seed=5))


def draw(subjects: Sequence[PlantedLaunch], count: int, seed: int) -> list[tuple[str, PlantedLaunch, int]]:
    """Kinds in turn, and of each a random place that is executed."""
    rng = random.Random(seed)
    places: dict[str, list[tuple[PlantedLaunch, int]]] = {kind: [] for kind in KINDS}
    for subject in subjects:
        executed = subject.run(subject.program, SCHEDULES[0], 50_000_000)[3]
        for index, statement in enumerate(subject.program.kernel.statements):
            if executed[index]:
                for kind, change in KINDS.items():
                    if change(statement, random.Random(0)) is not None:
                        places[kind].append((subject, index))
    kinds = [kind for kind, found in places.items() if found]
    return [(kind, *rng.choice(places[kind])) for kind in (kinds[i % len(kinds)] for i in range(count))]


_STOPPED = {"shared-bounds", "global-bounds", "wild-address", "deadlock", "endless"}
"""After these there is no result to compare."""


def plant(kind: str, subject: PlantedLaunch, index: int, seed: int, clean: dict[tuple[str, str], tuple]) -> Planted:
    """Plant one fault and run it under every schedule. clean: results without faults, filled as they are needed."""
    kernel = subject.program.kernel
    before = kernel.statements[index]
    after = KINDS[kind](before, random.Random(seed))
    assert after is not None, "drawn where the fault can be planted"
    rules: set[str] = set()
    notes: set[str] = set()
    numbers = False
    try:
        program = assemble(_with(kernel, index, after), subject.shared)
    except PtxError as error:
        program = None
        rules.add(f"refused: {error}")
    if program is not None:
        for schedule in SCHEDULES:
            if (subject.name, schedule.name) not in clean:
                clean[subject.name, schedule.name] = subject.run(subject.program, schedule, 50_000_000)
            faults, known_notes, end, executed = clean[subject.name, schedule.name]
            found, noted, contents, _ = subject.run(program, schedule, 20 * int(executed.sum()) + 100_000)
            rules |= found - faults
            notes |= noted - known_notes
            if rules:
                break
            if not found & _STOPPED:
                checked = [memory.checked for memory in subject.memories]
                numbers |= any(not np.array_equal(a, b) for a, b, c in zip(end, contents, checked, strict=True) if c)
    return Planted(
        kind=kind, subject=subject.name, statement=index, before=before.text,
        after=" ".join((after.opcode, ", ".join(after.operands))),
        rules=tuple(sorted(rules)), notes=tuple(sorted(notes)), numbers=numbers,
    )  # fmt: skip


ORDERS = ("bar.sync", "wgmma.wait_group", "fence.proxy.async", "wgmma.fence", "cp.async.wait_group")
"""Statements that only order others, each under rules that speak of every byte and register."""


def shown(kind: str, subject: PlantedLaunch, index: int, seed: int) -> str:
    """Why a fault that nothing showed is none; "" where that is not known.

    Either the program shows it, for every path and input; or the statement orders accesses, and these launches have none that
    need the order (equal bits are no excuse); or the two swapped registers are equal in every thread, whenever they are swapped.
    """
    kernel = subject.program.kernel
    after = KINDS[kind](kernel.statements[index], random.Random(seed))
    assert after is not None, "drawn where the fault can be planted"
    if proof := reason(kernel, index, after, subject.grid):
        return proof
    if kind == "two fragment registers swapped":
        return "in what runs, the two registers are equal" if _swaps_equals(subject, index, after) else ""
    if not kernel.statements[index].opcode.startswith(ORDERS):
        return ""
    program = assemble(_with(kernel, index, after), subject.shared)
    for schedule in SCHEDULES:
        if subject.conflicts(program, schedule) - subject.conflicts(subject.program, schedule):
            return ""
    return "in what runs, no byte and no register needs it"


def _swaps_equals(subject: PlantedLaunch, index: int, after: Statement) -> bool:
    """Asked by the program itself: it traps where the two registers differ."""
    kernel = subject.program.kernel
    before = kernel.statements[index]
    one, other = next(
        (a, b) for a, b in zip(_fragments(before), _fragments(after), strict=True) if a != b
    )  # fmt: skip
    # Of a wgmma they are read, of the others written.
    at = index + (not before.opcode.startswith("wgmma"))
    differ = Statement(predicate="", opcode="setp.ne.b32", operands=("%planted", one, other), text="", source="")
    stop = Statement(predicate="%planted", opcode="trap", operands=(), text="", source="")
    watching = replace(
        kernel,
        statements=[*kernel.statements[:at], differ, stop, *kernel.statements[at:]],
        labels={label: place + 2 * (place > index) for label, place in kernel.labels.items()},
        widths={**kernel.widths, "%planted": 1},
    )
    program = assemble(watching, subject.shared)
    return not any(subject.run(program, schedule, 100_000_000)[0] for schedule in SCHEDULES)


def _fragments(statement: Statement) -> list[str]:
    """The registers of all its fragments."""
    return [
        name.strip()
        for operand in statement.operands
        if operand.startswith("{")
        for name in operand.strip("{} ").split(",")
    ]


def _with(kernel: PtxKernel, index: int, statement: Statement) -> PtxKernel:
    statements = list(kernel.statements)
    statements[index] = statement
    return replace(kernel, statements=statements)
