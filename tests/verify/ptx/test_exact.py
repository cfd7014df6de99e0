"""Exact arithmetic on compiled code: instructions against the field, and what the ring has no answer for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deltaproof.specs.arithmetic.field import NEG_INF, OUTSIDE, FieldArray, constant, exp, random
from deltaproof.verify.ptx.errors import UnknownInstruction
from deltaproof.verify.ptx.exact import elements, embedded, tensor
from deltaproof.verify.ptx.machine import DeviceMemory, Pointer, run

from .small import module
from .test_arithmetic import LOAD, STORE
from .test_compiled import run as launched


def computed(instruction: str, *operands: FieldArray) -> tuple[FieldArray, list[str]]:
    """%r13 = instruction of %r10, %r11 and %r12 for 32 threads, and the rules that it broke."""
    values = torch.stack([tensor(operand, torch.float32) for operand in operands])
    out = torch.zeros(32)
    memories = [
        DeviceMemory(name=name, content=x.view(torch.uint8).numpy().reshape(-1))
        for name, x in (("values", values), ("out", out))
    ]
    program = embedded(module(LOAD + instruction + STORE, 32, 2), 0)
    found = run(program, [Pointer(0), Pointer(1)], memories, (1, 1, 1), check=False, exact=True).findings
    return elements(out), [finding.rule for finding in found]


FIELD = {
    "add.f32 %r13, %r10, %r11;": lambda a, b, c: a + b,
    "sub.f32 %r13, %r10, %r11;": lambda a, b, c: a - b,
    "mul.f32 %r13, %r10, %r11;": lambda a, b, c: a * b,
    "mul.f32 %r13, %r10, 0f3F000000;": lambda a, b, c: a * 0.5,
    "mov.b32 %r14, 1056964608; mul.f32 %r13, %r10, %r14;": lambda a, b, c: a * 0.5,
    "fma.rn.f32 %r13, %r10, %r11, %r12;": lambda a, b, c: a * b + c,
    "neg.f32 %r13, %r10;": lambda a, b, c: -a,
    "neg.f32 %r11, %r10; xor.b32 %r13, %r10, -2147483648;": lambda a, b, c: -a,
    "add.f32 %r13, %r10, %r11; mov.b32 %r14, 1; bfe.s32 %r15, %r14, 0, 1; and.b32 %r13, %r13, %r15;": lambda a, b, c: a + b,
    "add.f32 %r13, %r10, %r11; mov.b32 %r14, 1; bfe.u32 %r15, %r14, 0, 1; neg.s32 %r16, %r15; and.b32 %r13, %r16, %r13;": (
        lambda a, b, c: a + b
    ),
    "mul.f32 %r13, %r10, 0f3FB8AA3B; ex2.approx.f32 %r13, %r13;": lambda a, b, c: exp(a),
    "cvt.rn.bf16.f32 %h1, %r10; cvt.f32.bf16 %r13, %h1;": lambda a, b, c: a,
    "cvt.rn.bf16x2.f32 %r13, %r10, %r11; and.b32 %r13, %r13, -65536;": lambda a, b, c: a,
    "cvt.rn.bf16x2.f32 %r13, %r10, %r11; shl.b32 %r13, %r13, 16;": lambda a, b, c: b,
    "cvt.rn.bf16x2.f32 %r13, %r10, %r11; cvt.rn.bf16x2.f32 %r14, %r12, %r12; fma.rn.bf16x2 %r13, %r13, %r13, %r14;"
    " and.b32 %r13, %r13, -65536;": lambda a, b, c: a * a + c,
}  # fmt: skip


@pytest.mark.parametrize("instruction", FIELD)
def test_instructions_compute_in_the_field(instruction: str):
    a, b, c = random(np.random.default_rng(0), (3, 32))
    a.bits[:2], b.bits[1:4] = 0, (NEG_INF, NEG_INF, OUTSIDE)
    if "16" in instruction:
        # A -inf of 16 bits is no element: log decays are fp32.
        b.bits[1:4] = 5
    found, rules = computed(instruction, a, b, c)
    expected = FIELD[instruction](a, b, c) + 0.0
    lost = expected.bits == OUTSIDE
    assert not rules and (lost == (found.bits == OUTSIDE)).all()
    assert (found == expected)[~lost].all()


def test_what_nothing_has_written_is_no_element():
    for words, dtype in ((torch.int32, torch.float32), (torch.int16, torch.bfloat16)):
        assert (elements(torch.full((3,), -1, dtype=words).view(dtype)).bits == OUTSIDE).all()
    assert (elements(torch.zeros(3, dtype=torch.bfloat16)) == constant(0.0)).all()


WITHOUT_ANSWER = (
    "max.f32 %r13, %r10, %r11;",
    "rsqrt.approx.f32 %r13, %r10;",
    "cvt.rn.f32.s32 %r13, %r10;",
    "cvt.rn.bf16.f32 %h1, %r10; cvt.f32.bf16 %r13, %h1; add.f32 %r13, %r13, %r11; ex2.approx.f32 %r13, %r13;",
    "and.b32 %r13, %r10, -65536; ex2.approx.f32 %r13, %r13;",
)


@pytest.mark.parametrize("instruction", WITHOUT_ANSWER)
def test_an_instruction_without_an_answer_stops_the_program(instruction: str):
    a, b, c = random(np.random.default_rng(0), (3, 32))
    assert computed(instruction, a, b, c)[1] == ["unsupported"]


CONSTANTS = (
    "mov.b16 %h1, 0xBF80;", "selp.b16 %h1, 16256, 0, %p1;", "mov.b32 %r13, 1065369472;", "selp.b32 %r13, 0, -1082130304, %p1;",
    "xor.b16 %h1, %h1, -32768;",
)  # fmt: skip


@pytest.mark.parametrize("statement", CONSTANTS)
def test_a_number_that_may_be_a_float_and_is_not_embedded_is_refused(statement: str):
    with pytest.raises(UnknownInstruction):
        embedded(module(statement), 0)
    embedded(
        module("mov.b32 %r13, 65536; selp.b32 %r14, -1, 0, %p1; mov.b32 %r15, -65536; selp.b16 %h1, 1, 0, %p1;"), 0
    )


REFUSED = {
    "setp.lt.f32": "setp.lt.f32 %p1, %r10, %r11;",
    "and.b32": "add.f32 %r13, %r10, %r11; and.b32 %r13, %r13, 2147483647;",
    "red.global.add.f32": "red.global.add.f32 [%d0], %r10;",
}


@pytest.mark.parametrize("opcode", REFUSED)
def test_a_program_that_orders_floats_or_takes_them_apart_is_refused(opcode: str):
    with pytest.raises(UnknownInstruction) as error:
        embedded(module(REFUSED[opcode]), 0)
    assert error.value.opcode == opcode


def test_a_served_program_is_the_recurrence_and_one_without_an_addend_is_not_though_within_budget():
    done = launched("-m", "tests.verify.ptx.run_exact")
    assert done.returncode == 0, done.stderr[-2000:]
    (error, _), (equality, _), (error_planted, _), (equality_planted, message) = json.loads(done.stdout)
    assert (error, equality) == ("held", "held")
    assert (error_planted, equality_planted) == ("held", "failed") and "not the token recurrence" in message
