"""Instructions on registers: moves, integers, floats, conversions, and exchanges between lanes."""

from __future__ import annotations

from .assembler import Assembler, encodes, vector
from .opcodes import BITS, TYPES
from .program import LOCAL_BASE, SHARED_BASE
from .text import Statement

HALVES = ("f16", "bf16", "f16x2", "bf16x2")
COMPARISONS = {
    "eq": 0, "ne": 1, "lt": 2, "le": 3, "gt": 4, "ge": 5, "num": 6, "nan": 7, "lo": 2, "ls": 3, "hi": 4, "hs": 5,
    "equ": 16, "neu": 17, "ltu": 18, "leu": 19, "gtu": 20, "geu": 21,
}  # fmt: skip
_HALF = {"add": 0, "sub": 1, "mul": 2, "fma": 3, "min": 4, "max": 5, "neg": 6, "abs": 7, "ex2": 8, "tanh": 9}
_FLOAT = {
    "add": "FADD", "sub": "FSUB", "mul": "FMUL", "fma": "FMA", "mad": "FMA", "div": "FDIV", "min": "FMIN", "max": "FMAX",
    "neg": "FNEG", "abs": "FABS",
}  # fmt: skip
_DOUBLE = {
    "add": "DADD", "sub": "DSUB", "mul": "DMUL", "fma": "DFMA", "mad": "DFMA", "div": "DDIV", "min": "DMIN", "max": "DMAX",
    "neg": "FNEG", "abs": "FABS",
}  # fmt: skip


_ROUNDINGS = ("rn", "rz", "rm", "rp")


def _rounding(words: list[str]) -> int:
    return next((_ROUNDINGS.index(word) for word in words if word in _ROUNDINGS), 0)


@encodes("mov")
def move(asm: Assembler, s: Statement) -> None:
    to, source = s.operands
    if to.startswith("{"):
        parts = vector(to)
        width = BITS[s.parts[1]] // len(parts)
        registers = [asm.register(part) for part in parts]
        asm.emit("UNPACK", [*registers, asm.value(source, 64)], x=len(parts), y=width)
    elif source.startswith("{"):
        parts = vector(source)
        width = BITS[s.parts[1]] // len(parts)
        asm.emit("PACK", [asm.register(to), *(asm.value(part, width) for part in parts)], x=len(parts), y=width)
    elif s.parts[1] == "pred":
        value = asm.constant(source not in ("0", "false")) if source.lstrip("-").isdigit() else asm.value(source, 1)
        asm.emit("MOV", [asm.register(to), value], "pred", x=1)
    else:
        bits = BITS[s.parts[1]]
        asm.emit("MOV", [asm.register(to), asm.value(source, bits)], s.parts[-1], x=bits)


@encodes("cvta")
def to_address(asm: Assembler, s: Statement) -> None:
    # Generic addresses are those of global memory; shared and local memory have windows of their own.
    to, source = s.operands
    asm.only(s.parts[1:], "to", "global", "shared", "local", "const", "param", "u64", "u32")
    if "shared" in s.parts or "local" in s.parts:
        base = SHARED_BASE if "shared" in s.parts else LOCAL_BASE
        if "to" in s.parts:
            asm.emit("SUB", [asm.register(to), asm.value(source, 64), asm.constant(base)], "b64")
        else:
            asm.emit("ADD", [asm.register(to), asm.value(source, 64), asm.constant(base)], "b64")
    else:
        asm.emit("MOV", [asm.register(to), asm.value(source, 64)], "b64", x=64)


@encodes("add", "sub", "mul", "fma", "mad", "div", "min", "max", "neg", "abs", "rem")
def arithmetic(asm: Assembler, s: Statement) -> None:
    name, kind, words = s.parts[0], s.parts[-1], s.parts[1:-1]
    if "cc" in words:
        with_carry(asm, s)
        return
    to = asm.register(s.operands[0])
    if kind in ("f32", "f64"):
        asm.only(words, *_ROUNDINGS, "ftz", "approx", "full", "NaN", "sat")
        values = [asm.value(word, BITS[kind]) for word in s.operands[1:]]
        if len(values) != {"fma": 3, "mad": 3, "neg": 1, "abs": 1}.get(name, 2) or ("sat" in words and kind == "f64"):
            raise asm.unsupported()
        table = _FLOAT if kind == "f32" else _DOUBLE
        asm.emit(
            table[name], [to, *values], kind, x="NaN" in words, v="ftz" in words, z="sat" in words, w=_rounding(words)
        )
    elif kind == "f32x2":
        asm.only(words, "rn")
        values = [asm.value(word, 64) for word in s.operands[1:]]
        asm.emit("F32X2", [to, *values], "b64", x={"add": 0, "sub": 1, "mul": 2, "fma": 3}[name])
    elif kind in HALVES:
        asm.only(words, "rn", "ftz", "NaN", "relu", "sat")
        values = [asm.value(word, BITS[kind]) for word in s.operands[1:]]
        if "ftz" in words and kind.startswith("f16"):
            raise asm.unsupported()
        asm.emit("HALF", [to, *values], kind, x=_HALF[name], y="NaN" in words, z="relu" in words, w="sat" in words)
    else:
        _integers(asm, s, name, kind, words, to)


def _integers(asm: Assembler, s: Statement, name: str, kind: str, words: list[str], to: int) -> None:
    bits = BITS[kind]
    values = [asm.value(word, bits) for word in s.operands[1:3]]
    if name in ("mul", "mad"):
        (how,) = words
        if name == "mad":
            values.append(asm.value(s.operands[3], 2 * bits if how == "wide" else bits))
        asm.emit(name.upper() + {"lo": "LO", "wide": "WIDE", "hi": "HI"}[how], [to, *values], kind)
        return
    if words == ["sat"] and kind == "s32" and name in ("add", "sub"):
        asm.emit(f"{name.upper()}SAT", [to, *values], kind)
        return
    asm.only(words)
    asm.emit({"rem": "REM", "div": "DIV"}.get(name, name.upper()), [to, *values], kind)


@encodes("addc", "subc", "madc")
def with_carry(asm: Assembler, s: Statement) -> None:
    """Sums and products of more than 64 bits. Each thread's carry is a register that no text names."""
    name, kind, words = s.parts[0], s.parts[-1], s.parts[1:-1]
    root, takes = name.removesuffix("c"), name.endswith("c")
    asm.only(words, "cc", *(("lo", "hi") if root == "mad" else ()))
    asm.kernel.widths["%_carry"] = 1
    values = [asm.value(word, BITS[kind]) for word in s.operands[1:]]
    how = {"add": 0, "sub": 1, "mad": 3 if "hi" in words else 2}[root]
    asm.emit(
        "CARRY", [asm.register(s.operands[0]), *values, asm.register("%_carry")], kind, x=how, y=takes, z="cc" in words
    )


@encodes("and", "or", "xor", "not", "cnot")
def bitwise(asm: Assembler, s: Statement) -> None:
    kind = s.parts[1]
    values = [asm.value(word, BITS[kind]) for word in s.operands[1:]]
    asm.emit(s.parts[0].upper(), [asm.register(s.operands[0]), *values], kind)


@encodes("shl", "shr")
def shift(asm: Assembler, s: Statement) -> None:
    to, value, by = s.operands
    kind = s.parts[1]
    asm.emit(s.parts[0].upper(), [asm.register(to), asm.value(value, BITS[kind]), asm.value(by, 32)], kind)


@encodes("shf")
def funnel(asm: Assembler, s: Statement) -> None:
    to, *values = s.operands
    registers = [asm.register(to), *(asm.value(word, 32) for word in values)]
    asm.emit("SHF", registers, x=s.parts[1] == "l", y=s.parts[2] == "wrap")


@encodes("bfe", "bfi")
def bit_field(asm: Assembler, s: Statement) -> None:
    kind, fields = s.parts[1], 2
    to, *values = s.operands
    bits = [BITS[kind]] * (len(values) - fields) + [32] * fields
    registers = [asm.register(to), *(asm.value(word, width) for word, width in zip(values, bits, strict=True))]
    asm.emit(s.parts[0].upper(), registers, kind)


@encodes("bfind", "popc", "clz", "brev")
def count_bits(asm: Assembler, s: Statement) -> None:
    asm.only(s.parts[1:-1], "shiftamt")
    kind = s.parts[-1]
    registers = [asm.register(s.operands[0]), asm.value(s.operands[1], BITS[kind])]
    asm.emit(s.parts[0].upper(), registers, kind, x="shiftamt" in s.parts)


@encodes("prmt")
def permute(asm: Assembler, s: Statement) -> None:
    mode = {"f4e": 1, "b4e": 2, "rc8": 3, "ecl": 4, "ecr": 5, "rc16": 6}[s.parts[2]] if len(s.parts) > 2 else 0
    registers = [asm.register(s.operands[0]), *(asm.value(word, 32) for word in s.operands[1:4])]
    asm.emit("PRMT", registers, x=mode)


@encodes("lop3")
def logic(asm: Assembler, s: Statement) -> None:
    registers = [asm.register(s.operands[0]), *(asm.value(word, 32) for word in s.operands[1:4])]
    asm.emit("LOP3", registers, x=int(s.operands[4], 0))


@encodes("sad")
def absolute_difference(asm: Assembler, s: Statement) -> None:
    kind = s.parts[1]
    asm.emit("SAD", [asm.register(s.operands[0]), *(asm.value(word, BITS[kind]) for word in s.operands[1:])], kind)


@encodes("dp4a")
def dot_of_bytes(asm: Assembler, s: Statement) -> None:
    registers = [asm.register(s.operands[0]), *(asm.value(word, 32) for word in s.operands[1:])]
    asm.emit("DP4A", registers, x=s.parts[1] == "s32", y=s.parts[2] == "s32")


@encodes("setp")
def compare(asm: Assembler, s: Statement) -> None:
    kind, words = s.parts[-1], s.parts[1:-1]
    comparison = COMPARISONS[words[0]]
    join = next((word for word in words[1:] if word in ("and", "or", "xor")), "")
    asm.only(words[1:], join, "ftz")
    if kind in ("f16x2", "bf16x2"):
        raise asm.unsupported()
    to, _, opposite = s.operands[0].partition("|")
    bits = BITS[kind]
    registers = [asm.register(to), asm.value(s.operands[1], bits), asm.value(s.operands[2], bits)]
    negated = False
    if join:
        negated = s.operands[3].startswith("!")
        registers.append(asm.value(s.operands[3].lstrip("!"), 1))
    if opposite:
        registers.append(asm.register(opposite))
    how = {"": 0, "and": 1, "or": 2, "xor": 3}[join]
    asm.emit("SETP", registers, kind, x=comparison, y=how, z=negated, w=bool(opposite))


@encodes("selp")
def select(asm: Assembler, s: Statement) -> None:
    kind = s.parts[1]
    to, *values, predicate = s.operands
    registers = [asm.register(to), *(asm.value(word, BITS[kind]) for word in values), asm.value(predicate, 1)]
    asm.emit("SELP", registers, kind)


@encodes("slct")
def select_by_sign(asm: Assembler, s: Statement) -> None:
    kind, by = s.parts[-2:]
    to, *values, sign = s.operands
    registers = [asm.register(to), *(asm.value(word, BITS[kind]) for word in values), asm.value(sign, 32)]
    asm.emit("SLCT", registers, kind, x=by == "f32")


@encodes("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh")
def function(asm: Assembler, s: Statement) -> None:
    name, kind, words = s.parts[0], s.parts[-1], s.parts[1:-1]
    asm.only(words, "approx", "ftz", *(_ROUNDINGS if name in ("sqrt", "rcp") else ()))
    registers = [asm.register(s.operands[0]), asm.value(s.operands[1], BITS[kind])]
    if kind == "f32":
        asm.emit(name.upper(), registers, kind, v="ftz" in words, w=_rounding(words))
    elif kind == "f64" and name in ("sqrt", "rcp", "rsqrt"):
        asm.emit(f"D{name.upper()}", registers, kind, w=_rounding(words))
    elif kind in HALVES and name in ("ex2", "tanh"):
        asm.emit("HALF", registers, kind, x=_HALF[name])
    else:
        raise asm.unsupported()


@encodes("copysign")
def copy_sign(asm: Assembler, s: Statement) -> None:
    kind = s.parts[1]
    asm.emit("COPYSIGN", [asm.register(s.operands[0]), *(asm.value(w, BITS[kind]) for w in s.operands[1:])], kind)


@encodes("testp")
def test(asm: Assembler, s: Statement) -> None:
    asked = ("finite", "infinite", "number", "notanumber", "normal", "subnormal").index(s.parts[1])
    kind = s.parts[2]
    asm.emit("TESTP", [asm.register(s.operands[0]), asm.value(s.operands[1], BITS[kind])], kind, x=asked)


@encodes("cvt")
def convert(asm: Assembler, s: Statement) -> None:
    to, source, words = s.parts[-2], s.parts[-1], s.parts[1:-2]
    asm.only(words, "rn", "rna", "rz", "rni", "rzi", "rmi", "rpi", "ftz", "sat", "satfinite", "relu")
    if to == "pack" or source.endswith("x4"):
        raise asm.unsupported()
    target = asm.register(s.operands[0])
    relu = "relu" in words
    if to in ("e4m3x2", "e5m2x2"):
        kind = source if source == "f32" else source.removesuffix("x2")
        values = [asm.value(word, 32) for word in s.operands[1:]]
        asm.emit("CVTFP8", [target, *values], to.removesuffix("x2"), x=TYPES[kind], w=relu)
        return
    if source in ("e4m3x2", "e5m2x2"):
        asm.emit("CVTFROMFP8", [target, asm.value(s.operands[1], 16)], to, x=TYPES[source.removesuffix("x2")])
        return
    modes = {"rni": 1, "rzi": 2, "rmi": 3, "rpi": 4, "rna": 6}
    mode = next((modes[word] for word in words if word in modes), 5 if "rz" in words else 0)
    if to in ("bf16x2", "f16x2"):
        if source != "f32" or len(s.operands) != 3 or "satfinite" in words:
            raise asm.unsupported()
        values = [asm.value(word, 32) for word in s.operands[1:]]
        asm.emit("CVTPACK", [target, *values], to, y=mode, w=relu, v="ftz" in words)
        return
    if "satfinite" in words or (mode == 6 and to != "tf32") or (mode == 5 and source[0] in "us"):
        raise asm.unsupported()
    integers = to[0] in "us" and source[0] in "us"
    asm.emit(
        "CVT", [target, asm.value(s.operands[1], BITS[source])], to, x=TYPES[source], y=mode, z="sat" in words, w=relu,
        v="ftz" in words, n=max(asm.width(s.operands[0]), BITS[to]) if integers or to[0] == "s" else BITS[to],
    )  # fmt: skip


@encodes("shfl")
def shuffle(asm: Assembler, s: Statement) -> None:
    to, _, valid = s.operands[0].partition("|")
    registers = [asm.register(to), *(asm.value(word, 32) for word in s.operands[1:5])]
    if s.parts[1] != "sync":
        raise asm.unsupported()
    if valid:
        registers.append(asm.register(valid))
    mode = ("bfly", "up", "down", "idx").index(s.parts[2])
    asm.emit("SHFL", registers, x=mode, y=bool(valid))


@encodes("vote")
def vote(asm: Assembler, s: Statement) -> None:
    how = ("ballot", "all", "any", "uni").index(s.parts[2])
    source = s.operands[1]
    registers = [asm.register(s.operands[0]), asm.value(source.lstrip("!"), 1)]
    asm.emit("VOTE", registers, x=how, y=source.startswith("!"))


@encodes("match")
def match(asm: Assembler, s: Statement) -> None:
    to, _, all_same = s.operands[0].partition("|")
    kind = s.parts[-1]
    registers = [asm.register(to), asm.value(s.operands[1], BITS[kind]), asm.value(s.operands[2], 32)]
    if all_same:
        registers.append(asm.register(all_same))
    asm.emit("MATCH", registers, kind, x=s.parts[1] == "all", y=bool(all_same))


@encodes("activemask")
def active(asm: Assembler, s: Statement) -> None:
    asm.emit("ACTIVEMASK", [asm.register(s.operands[0])])


@encodes("elect")
def elect(asm: Assembler, s: Statement) -> None:
    leader, _, elected = s.operands[0].partition("|")
    asm.emit("ELECT", [asm.register(leader), asm.register(elected)])


@encodes("redux")
def reduce(asm: Assembler, s: Statement) -> None:
    how = ("add", "min", "max", "and", "or", "xor").index(s.parts[2])
    kind = s.parts[-1]
    if kind not in ("u32", "s32", "b32"):
        raise asm.unsupported()
    asm.emit("REDUX", [asm.register(s.operands[0]), asm.value(s.operands[1], 32)], kind, x=how)
