"""Run a program of the engine once: on these bytes, with this grid, under this schedule."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .assembly.program import SPECIAL, Program
from .errors import PtxError
from .finding import Finding
from .library import library
from .rules import BY_NUMBER
from .schedules import ROUND_ROBIN, Schedule

_FIRST, _EACH = 0x700000000000, 1 << 36
_STEP_LIMIT = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceMemory:
    """Memory on the device, such as a tensor's storage. content: contiguous uint8 array, written in place."""

    name: str
    content: np.ndarray
    checked: bool = True


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer as an argument: the number of the memory, and an offset in bytes."""

    memory: int
    offset: int = 0


Argument = Pointer | int | float | bytes


def address_of(pointer: Pointer) -> int:
    """Where memory lies on the simulated device."""
    return _FIRST + (pointer.memory + 1) * _EACH + pointer.offset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """The findings and counts of one run. executed: times that a warp executed each statement. traffic: see `_TRAFFIC`."""

    findings: list[Finding]
    stopped: str
    executed: np.ndarray
    traffic: dict[str, int]


class _Options(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in
          ["warps", "register_count", "code_size", "late", "policy", "check", "partial", "products", "count_traffic", "fill"]),
        ("shared_size", ctypes.c_int64), ("local_size", ctypes.c_int64), ("step_limit", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
    )  # fmt: skip


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64), ("size", ctypes.c_uint64), ("content", ctypes.c_void_p), ("shadow", ctypes.c_void_p),
    )  # fmt: skip


class _Event(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ["kind", "pc", "warp", "other_pc", "other_warp", "cta", "size", "other_cta"]),
        ("address", ctypes.c_int64), ("extra", ctypes.c_int64), ("count", ctypes.c_uint64),
    )  # fmt: skip


_TRAFFIC: tuple[str, ...] = (
    "global_load_bytes", "global_load_sectors", "global_store_bytes", "global_store_sectors", "shared_load_ideal",
    "shared_load_passes", "shared_store_ideal", "shared_store_passes", "wgmma_products", "mma_products", "warp_instructions",
    "programs", "global_load_used", "global_store_used",
)  # fmt: skip
"""Counts of one run. global: bytes that lanes ask for, sectors of 32 bytes that their warps touch, and bytes of these sectors
that are asked for at all. shared: passes over the banks, and the least that as many bytes need. products: multiply-adds.
Copies of TMA are not among them.
"""


def run(
    program: Program, arguments: Sequence[Argument], memories: Sequence[DeviceMemory], grid: tuple[int, int, int],
    schedule: Schedule = ROUND_ROBIN, *, check: bool = True, strict: bool = False, count_traffic: bool = False,
    step_limit: int = _STEP_LIMIT, exact: bool = False,
) -> Run:  # fmt: skip
    """Run every program of a launch.

    arguments: one for each parameter of the kernel. Memories are written in place. strict: warps conflict in shared memory though
    they write the bits that are there. Raises PtxError where arguments do not
    fit the parameters, MemoryError, and NoCompiler.
    """
    engine = library(exact)
    memories = [*memories, *_variables(program)]
    memories, addresses = _with_arrays(program, arguments, memories)
    tensors = (_Tensor * max(len(memories), 1))()
    shadows = []
    unit = engine.machine_sizes(2)
    for i, memory in enumerate(memories):
        shadow = np.zeros(memory.content.size * unit if check and memory.checked else 0, np.uint8)
        shadows.append(shadow)
        tensors[i].base, tensors[i].size = _FIRST + (i + 1) * _EACH, memory.content.size
        tensors[i].content = memory.content.ctypes.data
        tensors[i].shadow = shadow.ctypes.data if shadow.size else None
    initial = _initial(program, arguments, memories, addresses, grid, schedule)
    special = np.array([program.registers.get(name, -1) for name in SPECIAL], np.int32)
    options = _Options(
        warps=program.warps, register_count=len(program.widths), code_size=len(program.kernel.statements), late=schedule.late,
        policy=schedule.policy, check=check and 1 + strict, partial=program.partial, products=program.products,
        count_traffic=count_traffic, fill=schedule.fill, shared_size=program.shared, local_size=program.local,
        step_limit=step_limit, seed=schedule.seed,
    )  # fmt: skip
    machine = engine.machine_new(ctypes.byref(options), ctypes.addressof(program.code), program.operands.ctypes.data)
    if not machine:
        raise MemoryError(f"not enough memory to run {program.kernel.name}")
    try:
        threads, sizes = (np.array(three, np.int32) for three in (program.kernel.threads, grid))
        stopped = engine.machine_run(
            machine, ctypes.addressof(tensors), len(memories), initial.ctypes.data, special.ctypes.data, threads.ctypes.data,
            sizes.ctypes.data, 0, math.prod(grid), schedule.backwards,
        )  # fmt: skip
        count = ctypes.c_int32()
        events = engine.machine_events(machine, ctypes.byref(count))
        found = [_finding(program, memories, event, schedule) for event in (_Event * count.value).from_address(events)]
        size = len(program.kernel.statements)
        executed = np.ctypeslib.as_array((ctypes.c_uint64 * size).from_address(engine.machine_executed(machine))).copy()
        counts = (ctypes.c_uint64 * 16).from_address(engine.machine_traffic(machine))
        traffic = dict(zip(_TRAFFIC, map(int, counts), strict=False))
    finally:
        engine.machine_free(machine)
    return Run(findings=found, stopped=BY_NUMBER[stopped].code if stopped else "", executed=executed, traffic=traffic)


def _variables(program: Program) -> list[DeviceMemory]:
    """The module's variables in global and constant memory that the kernel names."""
    named = {name for name, _ in program.symbols.values()}
    return [
        DeviceMemory(name=name, content=np.frombuffer(variable.initial or bytes(variable.size), np.uint8).copy())
        for name, variable in program.kernel.variables.items()
        if name in named
    ]


def _with_arrays(
    program: Program, arguments: Sequence[Argument], memories: list[DeviceMemory]
) -> tuple[list[DeviceMemory], dict[str, int]]:
    """The memories, with one added for each parameter that is an array; and the address of each by its name."""
    found = list(memories)
    kernel = program.kernel
    if len(arguments) != len(kernel.parameters):
        raise PtxError(
            f"{kernel.name} has {len(kernel.parameters)} parameters, and {len(arguments)} arguments were given"
        )
    for parameter, argument in zip(kernel.parameters, arguments, strict=True):
        if parameter.size:
            if not isinstance(argument, bytes) or len(argument) != parameter.size:
                raise PtxError(f"parameter {parameter.name} is an array of {parameter.size} bytes")
            found.append(DeviceMemory(name=parameter.name, content=np.frombuffer(argument, np.uint8).copy()))
    return found, {memory.name: _FIRST + (i + 1) * _EACH for i, memory in enumerate(found)}


def _initial(
    program: Program, arguments: Sequence[Argument], memories: Sequence[DeviceMemory], addresses: dict[str, int],
    grid: tuple[int, int, int], schedule: Schedule,
) -> np.ndarray:  # fmt: skip
    """The value of each register before the program starts."""
    filled = int.from_bytes(bytes([schedule.fill]) * 8, "little")
    initial = np.array([filled & ((1 << int(width)) - 1) for width in program.widths], np.uint64)
    for register, value in program.constants.items():
        initial[register] = value
    values = {
        parameter.name: _encoded(parameter.type, argument, memories)
        for parameter, argument in zip(program.kernel.parameters, arguments, strict=True)
        if not parameter.size
    }
    for register, (name, offset) in program.symbols.items():
        value = values[name] if name in values else addresses[name]
        initial[register] = (value + offset) & ((1 << 64) - 1)
    x, y, z = program.kernel.threads
    launch = {f"%ntid.{axis}": size for axis, size in zip("xyz", (x, y, z), strict=True)}
    launch |= {f"%nctaid.{axis}": size for axis, size in zip("xyz", grid, strict=True)}
    # A program is a cluster of its own.
    for name, register in program.registers.items():
        if name in launch:
            initial[register] = launch[name]
        elif name.startswith("%cluster_ncta") or name in ("%cluster_nctarank",):
            initial[register] = 1
        elif name.startswith("%cluster") or name == "%smid":
            initial[register] = 0
    return initial


def _encoded(kind: str, argument: Argument, memories: Sequence[DeviceMemory]) -> int:
    if isinstance(argument, Pointer):
        if not 0 <= argument.memory < len(memories):
            raise PtxError(f"there is no memory {argument.memory}")
        return address_of(argument)
    if isinstance(argument, bytes):
        raise PtxError("bytes were given for a parameter that is a number")
    if kind in ("f32", "f64"):
        return int.from_bytes(struct.pack("<f" if kind == "f32" else "<d", float(argument)), "little")
    if isinstance(argument, float):
        return int.from_bytes(
            struct.pack("<f", argument) if kind.endswith("32") else struct.pack("<d", argument), "little"
        )
    return int(argument) & ((1 << int(kind[1:])) - 1)


def _finding(program: Program, memories: Sequence[DeviceMemory], event: _Event, schedule: Schedule) -> Finding:
    rule = BY_NUMBER[event.kind]
    statements = program.kernel.statements
    at = statements[event.pc] if 0 <= event.pc < len(statements) else None
    other = statements[event.other_pc] if 0 <= event.other_pc < len(statements) else None
    elsewhere = event.other_cta >= 0 and event.other_cta != event.cta
    memory = memories[event.extra].name if rule.code.startswith("global-") and rule.code != "global-alignment" else ""
    register = rule.code.startswith("register-")
    names = {number: name for name, number in program.registers.items()} if register else {}
    detail = f"register {names.get(event.address, '?')}" if register else ""
    if elsewhere:
        detail = f"program {event.other_cta}"
    elif rule.code == "unsupported":
        detail = {1: "more than 32 mbarriers", 2: "a barrier's number", 3: "wgmma with fewer than four warps"}.get(
            event.extra, ""
        )
    elif rule.code.endswith("bounds") and not memory:
        detail = f"{event.size} bytes, of {event.extra}"
    return Finding(
        rule=rule.code, kernel=program.kernel.name, source=at.source if at else "", instruction=at.text if at else "",
        other_source=other.source if other else "", other_instruction=other.text if other else "",
        warps=(event.warp,) if event.other_warp < 0 or event.other_warp >= 32 else (event.warp, event.other_warp),
        address=None if register else event.address, memory=memory or ("shared memory" if "shared" in rule.code else ""),
        count=event.count, program=event.cta, schedule=schedule.name, detail=detail,
    )  # fmt: skip
