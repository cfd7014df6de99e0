"""Instructions that read and write memory, and those that copy asynchronously."""

from __future__ import annotations

import re

from .assembler import Assembler, encodes, vector
from .opcodes import BITS, TYPES
from .text import Statement

LOCAL_BASE, SHARED_BASE = 0x600000000000, 0x500000000000
"""Where the windows of local and shared memory lie among generic addresses; native/memory.h has the same."""

_SPACES = ("global", "shared", "local", "param", "const")
# Caching hints and scopes change nothing that is simulated; `nc` promises that nobody writes.
_HINTS = re.compile(
    r"L[12]::.*|ca|cg|cs|lu|cv|wb|wt|nc|weak|volatile|relaxed|acquire|release|acq_rel|cta|cluster|gpu|sys|noinc|v[1248]"
)
_STRONG = {"relaxed", "volatile", "acquire", "release", "acq_rel"}
_ATOMICS = ("add", "exch", "cas", "max", "min", "and", "or", "xor", "inc", "dec")


def _space(words: list[str]) -> str:
    for word in words:
        name = word.split("::")[0]
        if name in _SPACES:
            return name
    return ""


def _length(words: list[str]) -> int:
    return next((int(word[1]) for word in words if re.fullmatch(r"v[248]", word)), 1)


def _check(asm: Assembler, words: list[str]) -> None:
    for word in words:
        if word.split("::")[0] not in _SPACES and not _HINTS.fullmatch(word):
            raise asm.unsupported()
        if word in ("shared::cluster", "param::func"):
            raise asm.unsupported()


def _ordered(words: list[str]) -> bool:
    return any(word in ("acquire", "release", "acq_rel") for word in words)


@encodes("ld", "ldu")
def load(asm: Assembler, s: Statement) -> None:
    kind, words = s.parts[-1], s.parts[1:-1]
    _check(asm, words)
    space = _space(words)
    names = vector(s.operands[0])
    registers = [asm.register(name) for name in names]
    bits = max(asm.width(name) for name in names)
    if space == "param":
        name = s.operands[1].strip("[] ").split("+")[0].strip()
        offset = int(s.operands[1].strip("[] ").split("+")[1], 0) if "+" in s.operands[1] else 0
        if len(names) != 1 or offset:
            raise asm.unsupported()
        source = asm.symbol(name)
        if kind.startswith("s"):
            asm.emit("SEXT", [registers[0], source], kind, x=bits)
        else:
            asm.emit("MOV", [registers[0], source], kind, x=BITS[kind])
        return
    base, offset = asm.address(s.operands[1])
    operation = {"shared": "LDS", "local": "LDL", "": "LDX"}.get(space, "LDG")
    # The first value of a loop around compare-and-swap may be read weakly: the swap finds out whether it was right.
    strong = bool(_STRONG & set(words)) or s.operands[1] in asm.swapped
    asm.emit(
        operation,
        [*registers, base],
        kind,
        x=offset,
        n=_length(words),
        y=bits,
        z=strong,
        w=_ordered(words),
    )


@encodes("st")
def store(asm: Assembler, s: Statement) -> None:
    kind, words = s.parts[-1], s.parts[1:-1]
    _check(asm, words)
    registers = [asm.value(name, BITS[kind]) for name in vector(s.operands[1])]
    base, offset = asm.address(s.operands[0])
    operation = {"shared": "STS", "local": "STL", "": "STX"}.get(_space(words), "STG")
    if operation == "STX":
        asm.emit(operation, [*registers, base], kind, x=offset, n=_length(words))
    else:
        asm.emit(operation, [*registers, base], kind, x=offset, n=_length(words), w=_ordered(words))


@encodes("atom", "red")
def atomic(asm: Assembler, s: Statement) -> None:
    kind, words = s.parts[-1], s.parts[1:-1]
    name = next(word for word in words if word in _ATOMICS)
    _check(asm, [word for word in words if word not in (name, "noftz")])
    operands = list(s.operands) if s.parts[0] == "atom" else ["_", *s.operands]
    space = _space(words)
    length = _length(words)
    base, offset = asm.address(operands[1])
    olds = vector(operands[0]) if operands[0] != "_" else ["_"] * length
    new = [
        asm.value(word, BITS[kind]) for operand in operands[2 : 4 if name == "cas" else 3] for word in vector(operand)
    ]
    if space not in ("global", "shared", "") or kind == "b128":
        raise asm.unsupported()
    asm.emit(
        "ATOMS" if space == "shared" else "ATOMG", [*(asm.register(old) for old in olds), base, *new], kind, x=offset,
        y=_ATOMICS.index(name), z=_ordered(words), n=length,
    )  # fmt: skip


@encodes("ldmatrix", "stmatrix")
def matrix(asm: Assembler, s: Statement) -> None:
    load = s.parts[0] == "ldmatrix"
    asm.only(s.parts[1:], "sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", "shared", "shared::cta", "b16")
    names, place = s.operands if load else reversed(s.operands)
    base, offset = asm.address(place)
    registers = [asm.register(name) for name in vector(names)]
    asm.emit("LDM" if load else "STM", [*registers, base], x=offset, y="trans" in s.parts, n=len(registers))


@encodes("cp")
def copy(asm: Assembler, s: Statement) -> None:
    words = s.parts[1:]
    if words[:2] == ["async", "commit_group"]:
        asm.emit("CPCOMMIT", [])
    elif words[:2] == ["async", "wait_group"]:
        asm.emit("CPWAIT", [], x=int(s.operands[0], 0))
    elif words[:2] == ["async", "wait_all"]:
        asm.emit("CPWAIT", [], x=-1)
    elif words[:2] == ["async", "bulk"]:
        _bulk(asm, s, words[2:])
    elif words[0] == "async" and words[1] in ("ca", "cg"):
        for word in words[2:]:
            if word.split("::")[0] not in ("shared", "global", "L2"):
                raise asm.unsupported()
        (to, to_offset), (source, from_offset) = asm.address(s.operands[0]), asm.address(s.operands[1])
        registers, sized = [to, source], False
        extra = s.operands[3:4] if "L2::cache_hint" not in words else s.operands[3:-1]
        if extra:
            if asm.kernel.widths.get(extra[0]) == 1:
                raise asm.unsupported()
            registers.append(asm.value(extra[0], 32))
            sized = True
        asm.emit("CPASYNC", registers, x=int(s.operands[2], 0), y=sized, z=to_offset, w=from_offset)
    elif words[0] == "reduce":
        _bulk(asm, s, words[3:], reduce=True)
    else:
        raise asm.unsupported()


def _bulk(asm: Assembler, s: Statement, words: list[str], reduce: bool = False) -> None:
    if words == ["commit_group"]:
        asm.emit("BULKCOMMIT", [])
        return
    if words[0] == "wait_group":
        asm.emit("BULKWAIT", [], x=int(s.operands[0], 0))
        return
    if words[0] != "tensor" or not re.fullmatch(r"[1-5]d", words[1]):
        raise asm.unsupported()
    count = int(words[1][0])
    rest = [word for word in words[2:] if word not in ("tile", "L2::cache_hint")]
    if rest in (
        ["shared::cluster", "global", "mbarrier::complete_tx::bytes"], ["shared::cta", "global", "mbarrier::complete_tx::bytes"],
    ) and not reduce:  # fmt: skip
        to, to_offset = asm.address(s.operands[0])
        name, coordinates = _map(asm, s.operands[1])
        barrier, barrier_offset = asm.address(s.operands[2])
        asm.emit(
            "BULKLOAD", [to, name, *coordinates, barrier], x=to_offset, y=-1, z=barrier_offset, n=count
        )  # fmt: skip
        return
    operation = rest.pop(2) if reduce and len(rest) == 4 else ""
    if rest != ["global", "shared::cta", "bulk_group"] or (reduce and operation not in _ATOMICS):
        raise asm.unsupported()
    name, coordinates = _map(asm, s.operands[0])
    source, offset = asm.address(s.operands[1])
    how = _ATOMICS.index(operation) if reduce else -1
    asm.emit("BULKSTORE", [source, name, *coordinates], x=offset, y=how, n=count)


def _map(asm: Assembler, word: str) -> tuple[int, list[int]]:
    """The register of a tensor map and those of the coordinates: [map, {x, y}]."""
    found = re.fullmatch(r"\[\s*([%\w$.]+)\s*,\s*\{([^}]*)\}\s*\]", word)
    if found is None:
        raise asm.unsupported()
    return asm.value(found[1], 64), [asm.value(part.strip(), 32) for part in found[2].split(",")]


_MAP_FIELDS = (
    "global_address", "rank", "box_dim", "global_dim", "global_stride", "element_stride", "elemtype", "interleave_layout",
    "swizzle_mode", "fill_mode",
)  # fmt: skip


@encodes("tensormap")
def tensor_map(asm: Assembler, s: Statement) -> None:
    words = s.parts[1:]
    if words[0] == "replace":
        asm.only(words[1:], "tile", *_MAP_FIELDS, "shared::cta", "global", "b1024", "b32", "b64")
        name = next(word for word in words if word in _MAP_FIELDS)
        base, offset = asm.address(s.operands[0])
        index = int(s.operands[1], 0) if len(s.operands) == 3 else 0
        kind = words[-1]
        asm.emit(
            "TENSORMAP", [base, asm.value(s.operands[-1], BITS[kind])], kind, x=offset, y=_MAP_FIELDS.index(name), z=index,
            w="shared::cta" in words,
        )  # fmt: skip
    elif words[0] == "cp_fenceproxy":
        (to, to_offset), (source, from_offset) = asm.address(s.operands[0]), asm.address(s.operands[1])
        if "shared::cta" not in words or int(s.operands[2], 0) != 128:
            raise asm.unsupported()
        asm.emit("TMAPCOPY", [to, source], x=to_offset, y=from_offset)
    else:
        raise asm.unsupported()


@encodes("createpolicy")
def policy(asm: Assembler, s: Statement) -> None:
    asm.emit("MOV", [asm.register(s.operands[0]), asm.constant(0)], "b64", x=64)


@encodes("prefetch", "prefetchu", "discard", "applypriority")
def hint(asm: Assembler, s: Statement) -> None:
    asm.emit("NOP", [])


def kind_number(kind: str) -> int:
    return TYPES[kind]
