"""A call's launches as compiled, in exact arithmetic: words of floats hold elements of `specs.arithmetic.field`.

The program is the same, but for its constants, which are embedded as the oracle embeds them. native/exact.h says how a word holds
an element. An instruction that the ring has no answer for is the finding `unsupported`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ...specs.arithmetic.field import NEG_INF, OUTSIDE, FieldArray, constant_bits, unpack
from .assembly.assemble import assemble
from .assembly.program import Program
from .assembly.text import Statement, parse
from .device import DeviceLaunch, simulated
from .errors import UnknownInstruction
from .finding import Finding
from .launch import bind
from .machine import run
from .schedules import FIRST_FIRST
from .verdict import PtxVerdict

_NAME = re.compile(r"%\w+")
_LITERAL = re.compile(r"\b0[fF]([0-9a-fA-F]{8})\b")
_FLOAT_PARAMETER = re.compile(r"(\.param\s+)\.f32\b")
_OF_FLOATS = re.compile(r"\.(?:b?f16(?:x2)?|f32)$")
_REFUSED = re.compile(r"(?:setp|slct|testp|copysign|atom|red|cp\.reduce)\S*\.(?:b?f16(?:x2)?|f32)$|.*(?:e4m3|e5m2|f64)")
"""Instructions that order floats or add them in memory, and formats that hold no element."""
_OF_BITS = re.compile(r"(?:and|or|xor|not|lop3|shl|shr|bfe|bfi|add|sub|mul|mad|min|max)\.(?:\w+\.)?[bsu](?:16|32)$")
_HALVES = (("16",), ("-65536",), ("0xFFFF0000",))
"""By which a word is shifted, or masked, into the upper half of one."""
_PLACED = re.compile(r"(?:mov|selp)\.[bsu]?f?(16|32)$")
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|\d+)$")
_NEGATIVE = {"-2147483648": "neg.f32", "-2147450880": "neg.bf16x2", "-32768": "neg.bf16"}
"""The compiler's other way to negate: an xor with the bits of the signs."""


@contextmanager
def exactly(arch: int) -> Iterator[list[PtxVerdict]]:
    """Within, every launch on CPU tensors of words is compiled and run in the ring; the list holds what was found so far."""
    verdicts: list[PtxVerdict] = []

    def handle(launch: DeviceLaunch) -> None:
        if 0 in launch.grid:
            return
        try:
            program = embedded(launch.ptx, launch.kernel.metadata.shared)
        except UnknownInstruction as error:
            found = [Finding(rule="unsupported", kernel=launch.name, instruction=error.opcode, detail=str(error))]
            verdicts.append(PtxVerdict(kernel=launch.name, findings=found))
            return
        arguments, memories = bind(launch, program)
        given = [int(_words(constant_bits(x))) if isinstance(x, float) else x for x in arguments]
        # All asynchronous work is late, and what is not written is no element.
        found = run(program, given, memories, launch.grid, FIRST_FIRST, check=False, exact=True).findings
        verdicts.append(PtxVerdict(kernel=launch.name, findings=found))

    with simulated(arch, handle):
        yield verdicts


@lru_cache(maxsize=64)
def embedded(ptx: str, shared: int) -> Program:
    """The program of a text, on elements. Raises UnknownInstruction for one that takes floats apart, or orders them."""

    text = _LITERAL.sub(lambda literal: f"0f{_word_of(int(literal[1], 16)):08x}", ptx)
    kernel = parse(_FLOAT_PARAMETER.sub(r"\1.b32", text))
    of_floats = (s for s in kernel.statements if _OF_FLOATS.search(s.opcode))
    floats = {x for s in of_floats for word in s.operands if word[0] != "[" for x in _NAME.findall(word)}
    # The compiler writes their constants, -1 in a difference for one, as integers.
    pairs = {x for s in kernel.statements if s.opcode.endswith(".bf16x2") for x in s.operands}
    # One bit as a whole word: an `and` with it is a select.
    bits = {s.operands[0] for s in kernel.statements if s.opcode in ("bfe.u32", "and.b32") and s.operands[-1] == "1"}
    whole = {
        s.operands[0]
        for s in kernel.statements
        if (s.opcode == "bfe.s32" and s.operands[-1] == "1") or (s.opcode == "neg.s32" and s.operands[1] in bits)
    }
    kernel.statements[:] = [_on_elements(s, floats, pairs, whole) for s in kernel.statements]
    return assemble(kernel, shared)


def _on_elements(s: Statement, floats: Set[str], pairs: Set[str], whole: Set[str]) -> Statement:
    """The statement as it runs on elements. floats: registers that instructions on floats name. pairs: of two bf16. whole: of one
    bit as a whole word. Raises UnknownInstruction."""
    flips = s.parts[0] == "xor" and s.operands[-1] in _NEGATIVE
    kept = s.operands[-1:] in _HALVES or (s.parts[0] == "and" and not whole.isdisjoint(s.operands))
    taken_apart = _OF_BITS.match(s.opcode) and not kept and not floats.isdisjoint(s.operands)
    if flips and taken_apart:
        return replace(s, opcode=_NEGATIVE[s.operands[-1]], operands=s.operands[:2])
    # The sign of what no instruction on floats names may be changed, as between a load and a store.
    if flips or taken_apart or _REFUSED.match(s.opcode):
        raise UnknownInstruction(s.opcode, s.text)
    if s.opcode == "mov.b32" and s.operands[0] in pairs and re.fullmatch(r"-?\d+", s.operands[1]):
        pair = int(s.operands[1]) & 0xFFFFFFFF
        pair = _word_of(pair & 0xFFFF0000) & 0xFFFF0000 | _word_of(pair << 16 & 0xFFFF0000) >> 16
        return replace(s, operands=(s.operands[0], str(pair)))
    return _placed(s)


def _placed(s: Statement) -> Statement:
    """The statement, its integers embedded where they are the bits of floats. Raises UnknownInstruction for one of 16
    bits, or that may be two such: nothing says of which format they are."""
    if not (of := _PLACED.match(s.opcode)):
        return s
    words = list(s.operands)
    for place, word in enumerate(words[1:], start=1):
        number = int(word, 0) & 0xFFFFFFFF if _INTEGER.match(word) else 0
        # From 2^-30 to 2^31, of either sign; smaller numbers are counted with, and masks are larger.
        float_like = 0x30800000 <= number & 0x7FFFFFFF < 0x4F000000
        # Of 16 bits, numbers of fp16 that are not tiny, and so those of bf16.
        half_like = of[1] == "16" and 0x0400 <= number & 0x7FFF < 0x7C00
        if half_like or (float_like and number & 0xFFFF):
            raise UnknownInstruction(s.opcode, s.text)
        words[place] = str(_word_of(number)) if float_like else word
    return replace(s, operands=tuple(words))


def _word_of(bits: int) -> int:
    """The word that stands for a constant, given the bits of its float."""
    return int(_words(constant_bits(float(np.array(bits, np.uint32).view(np.float32)))))


def _words(payloads: Any) -> np.ndarray:
    """Payloads as words; 0 is the word of zeros, as which memory is cleared."""
    bits = np.asarray(payloads, np.uint32)
    whole = (bits << np.uint32(16) | bits >> np.uint32(16)) + np.uint32(1)
    return np.where((bits == NEG_INF) | (bits == OUTSIDE) | (bits == 0), bits, whole)


def _payloads(words: np.ndarray) -> np.ndarray:
    """Words as payloads. Where there is no Z_q part it is 0: only F_p parts are compared."""
    low = words & np.uint32(0xFFFF)
    exponents = low - np.minimum(low, np.uint32(1))
    return np.where((words == NEG_INF) | (words == OUTSIDE), words, words >> np.uint32(16) | exponents << np.uint32(16))


def tensor(values: FieldArray, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of words; one of 16 bits holds F_p parts."""
    words = np.ascontiguousarray(_words(values.bits))
    if dtype.itemsize == 4:
        return torch.from_numpy(words.view(np.int32)).view(dtype)
    return torch.from_numpy((words >> np.uint32(16)).astype(np.uint16).view(np.int16)).view(dtype)


def elements(tensor: torch.Tensor) -> FieldArray:
    """The elements of a tensor of words; OUTSIDE for what is none."""
    x = tensor.detach().contiguous()
    if x.element_size() == 4:
        return unpack(_payloads(x.view(torch.int32).numpy().view(np.uint32)))
    return unpack(x.view(torch.int16).numpy().view(np.uint16).astype(np.uint32))
