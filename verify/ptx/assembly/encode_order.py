"""Instructions that order the accesses of warps, the products of tensor cores, and branches."""

from __future__ import annotations

import re

from .assembler import Assembler, encodes, vector
from .opcodes import BITS, TYPES
from .text import Statement

_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)$")


@encodes("bar", "barrier")
def barrier(asm: Assembler, s: Statement) -> None:
    words = [word for word in s.parts[1:] if word not in ("cta", "aligned")]
    if words == ["warp", "sync"]:
        asm.emit("NOP", [])
        return
    if words not in (["sync"], ["arrive"]):
        raise asm.unsupported()
    number = s.operands[0]
    fixed = number.isdigit()
    threads = 0
    if len(s.operands) > 1:
        if not s.operands[1].isdigit():
            raise asm.unsupported()
        threads = int(s.operands[1])
        x, y, z = asm.kernel.threads
        asm.partial |= threads != x * y * z
    asm.partial |= words == ["arrive"]
    asm.emit(
        "BAR" if words == ["sync"] else "ARRIVE", [] if fixed else [asm.register(number)], x=int(number) if fixed else 0,
        y=not fixed, z=threads,
    )  # fmt: skip


@encodes("fence", "membar")
def fence(asm: Assembler, s: Statement) -> None:
    words = s.parts[1:]
    asynchronous = words[:2] == ["proxy", "async"] or "proxy.async::generic" in s.opcode
    if words[0] == "proxy" and not asynchronous and words[1].split("::")[0] not in ("tensormap", "alias"):
        raise asm.unsupported()
    # A fence of the asynchronous proxy for global memory alone says nothing of shared memory.
    asm.emit("FENCEPROXY" if asynchronous and "global" not in words else "FENCE", [])


@encodes("mbarrier")
def mbarrier(asm: Assembler, s: Statement) -> None:
    words = [
        word
        for word in s.parts[1:]
        if word.split("::")[0] not in ("shared", "b64", "cta", "relaxed", "release", "acquire")
    ]
    if "shared::cluster" in s.parts and "cluster" in s.parts:
        raise asm.unsupported()
    asm.partial = True
    operands = list(s.operands)
    if words[0] == "init":
        base, offset = asm.address(operands[0])
        asm.emit("MBINIT", [base, asm.value(operands[1], 32)], x=offset)
    elif words[0] == "inval":
        base, offset = asm.address(operands[0])
        asm.emit("MBINVAL", [base], x=offset)
    elif words[0] in ("arrive", "expect_tx"):
        if words[0] == "arrive" and not operands[0].startswith("["):
            # The state that an arrival returns is for waits by token, which the engine does not have.
            operands.pop(0)
        base, offset = asm.address(operands[0])
        expects = "expect_tx" in words
        asm.only(words[1:], "expect_tx")
        value = asm.value(operands[1], 32) if len(operands) > 1 else asm.constant(1)
        asm.emit("MBARRIVE", [base, value], x=offset, y=words[0] == "arrive", z=expects)
    elif words[0] in ("try_wait", "test_wait") and words[1:] == ["parity"]:
        base, offset = asm.address(operands[1])
        asm.emit("MBWAIT", [asm.register(operands[0]), base, asm.value(operands[2], 32)], x=offset)
    else:
        raise asm.unsupported()


@encodes("griddepcontrol", "nanosleep", "setmaxnreg")
def hint(asm: Assembler, s: Statement) -> None:
    asm.emit("NOP", [])


@encodes("mma")
def product(asm: Assembler, s: Statement) -> None:
    words = [word for word in s.parts[1:] if word not in ("sync", "aligned", "satfinite")]
    shape, layout_a, layout_b, *kinds = words
    found = _SHAPE.match(shape)
    if found is None or (layout_a, layout_b) != ("row", "col") or len(kinds) != 4:
        raise asm.unsupported()
    m, n, k = (int(number) for number in found.groups())
    d, a, b, c = (vector(operand) for operand in s.operands[:4])
    to, kind_a, kind_b, add = kinds
    if kinds == ["f64"] * 4:
        if (m, n, k) not in ((8, 8, 4), (16, 8, 4), (16, 8, 8), (16, 8, 16)):
            raise asm.unsupported()
    elif (m, n) != (16, 8) or to != add or (kind_a, kind_b, to) not in _PRODUCTS:
        raise asm.unsupported()
    registers = [
        *(asm.register(name) for name in d),
        *(asm.value(name, BITS[kind_a] if kind_a == "f64" else 32) for name in a + b),
    ]
    registers += [asm.value(name, 64 if to == "f64" else 32) for name in c]
    asm.emit(
        "MMA",
        registers,
        kind_a,
        x=k,
        y=len(a) | ("satfinite" in s.parts) << 8,
        z=len(b),
        n=len(d),
        w=TYPES[to],
        v=TYPES[kind_b],
    )


_INTEGERS = {(a, b, "s32") for a in ("s8", "u8") for b in ("s8", "u8")}
_BYTES = {(a, b, to) for a in ("e4m3", "e5m2") for b in ("e4m3", "e5m2") for to in ("f32", "f16")}
_PRODUCTS = {
    ("bf16", "bf16", "f32"),
    ("f16", "f16", "f32"),
    ("f16", "f16", "f16"),
    ("tf32", "tf32", "f32"),
    *_INTEGERS,
    *_BYTES,
}


@encodes("wgmma")
def group_product(asm: Assembler, s: Statement) -> None:
    name = s.parts[1]
    if name == "fence":
        asm.emit("WGFENCE", [])
    elif name == "commit_group":
        asm.emit("WGCOMMIT", [])
    elif name == "wait_group":
        asm.emit("WGWAIT", [], x=int(s.operands[0], 0))
    elif name == "mma_async":
        _group_product(asm, s)
    else:
        raise asm.unsupported()


def _group_product(asm: Assembler, s: Statement) -> None:
    words = [word for word in s.parts[2:] if word not in ("sync", "aligned")]
    shape, to, kind_a, kind_b = words
    found = _SHAPE.match(shape)
    if found is None or found[1] != "64" or (kind_a, kind_b, to) not in _PRODUCTS:
        raise asm.unsupported()
    n, k = int(found[2]), int(found[3])
    d = vector(s.operands[0])
    from_registers = s.operands[1].startswith("{")
    a = vector(s.operands[1]) if from_registers else [s.operands[1]]
    rest = [int(word, 0) for word in s.operands[4:]]
    negate_a = negate_b = transpose_a = transpose_b = 0
    if to != "s32":
        negate_a, negate_b = rest[0] == -1, rest[1] == -1
    if BITS[kind_a] == 16:
        transpose_a, transpose_b = (0, rest[2]) if from_registers else (rest[2], rest[3])
    registers = [asm.register(name) for name in d] + [asm.value(name, 32 if from_registers else 64) for name in a]
    registers += [asm.value(s.operands[2], 64), asm.value(s.operands[3], 1)]
    flags = (len(a) if from_registers else 0) | transpose_a << 8 | transpose_b << 9 | negate_a << 10 | negate_b << 11
    asm.products = True
    asm.emit("WGMMA", registers, kind_a, x=n | k << 16, y=flags, n=len(d), w=TYPES[to], v=TYPES[kind_b])


@encodes("bra")
def branch(asm: Assembler, s: Statement) -> None:
    asm.emit("BRA", [], x=asm.kernel.labels[s.operands[-1]])


@encodes("ret", "exit")
def end(asm: Assembler, s: Statement) -> None:
    asm.emit("RET", [])


@encodes("trap", "brkpt")
def trap(asm: Assembler, s: Statement) -> None:
    asm.emit("TRAP", [])
