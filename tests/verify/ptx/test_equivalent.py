"""A planted fault counts as none only where the program shows it; what breaks a rule is never called equivalent."""

from __future__ import annotations

import random

import numpy as np
import pytest

from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.assembly.text import parse
from deltaproof.verify.ptx.faults import planting
from deltaproof.verify.ptx.faults.equivalent import reason
from deltaproof.verify.ptx.faults.planting import KINDS
from deltaproof.verify.ptx.machine import DeviceMemory, Pointer

from .small import module, rules, verdict
from .test_rules import ADDRESS, DESCRIPTORS, FILL, MULTIPLY, OTHER, OUT, READY, RESULT, WAIT, ZERO

FENCE, PROXY, BARRIER = "wgmma.fence.sync.aligned;", "fence.proxy.async.shared::cta;", "bar.sync 0;"

# Kind, a body whose statement is marked by @@ in front, whether it is none.
CASES = (
    ("wgmma.wait_group dropped", READY + MULTIPLY + "@@" + WAIT + RESULT, False),
    ("wgmma.wait_group dropped", READY + MULTIPLY + WAIT + "@@" + WAIT + RESULT, True),
    ("wgmma.wait_group dropped", READY + MULTIPLY + "@@" + WAIT + "mov.b32 %r9, 7;" + WAIT + RESULT, True),
    ("wgmma.wait_group dropped", READY + MULTIPLY + "@@" + WAIT + "add.f32 %r9, %r20, %r20;" + WAIT + RESULT, False),
    ("wgmma.wait_group dropped", READY + MULTIPLY + "@@" + WAIT + "st.shared.b32 [%r4], %r9;" + WAIT + RESULT, False),
    ("wgmma.wait_group dropped", READY + MULTIPLY + "@@" + WAIT + BARRIER + WAIT + RESULT, False),
    ("wgmma.wait_group one more", READY + MULTIPLY + "@@" + WAIT + RESULT, False),
    ("wgmma.wait_group one more", READY + MULTIPLY + "wgmma.wait_group.sync.aligned 0; @@" + WAIT + RESULT, True),
    ("fence.proxy.async dropped", FILL + "@@" + PROXY + BARRIER + DESCRIPTORS + ZERO + FENCE + MULTIPLY + WAIT + RESULT, False),
    ("fence.proxy.async dropped",
     FILL + "@@" + PROXY + PROXY + BARRIER + DESCRIPTORS + ZERO + FENCE + MULTIPLY + WAIT + RESULT, True),
    ("fence.proxy.async dropped",
     FILL + PROXY + BARRIER + "@@" + PROXY + DESCRIPTORS + ZERO + FENCE + MULTIPLY + WAIT + RESULT, True),
    ("wgmma.fence dropped", READY.replace(FENCE, "@@" + FENCE) + MULTIPLY + WAIT + RESULT, False),
    ("wgmma.fence dropped", READY + "@@" + FENCE + MULTIPLY + WAIT + RESULT, True),
    ("wgmma.fence dropped", READY + "add.f32 %r20, %r21, %r22; @@" + FENCE + MULTIPLY + WAIT + RESULT, False),
    ("a barrier dropped",
     ADDRESS + OTHER + "st.shared.b32 [%r4], %r0; @@" + BARRIER + "ld.shared.b32 %r5, [%r7];" + OUT, False),
    ("a barrier dropped",
     ADDRESS + "st.shared.b32 [%r4], %r0;" + BARRIER + "mov.b32 %r9, 1; @@" + BARRIER + "ld.shared.b32 %r5, [%r4];",
     True),
    ("lt and le exchanged", "@@ setp.lt.u32 %p1, %r0, 7; mov.b32 %r5, 1; @%p1 mov.b32 %r5, 2;" + OUT, False),
    ("lt and le exchanged", "@@ setp.lt.u32 %p1, %r0, 7; mov.b32 %r5, 1;" + OUT, True),
    ("lt and le exchanged", "mov.u32 %r9, %ctaid.y; @@ setp.lt.u32 %p1, %r9, 2; selp.b32 %r5, 1, 2, %p1;" + OUT, True),
    ("lt and le exchanged", "mov.u32 %r9, %ctaid.y; @@ setp.lt.u32 %p1, %r9, 1; selp.b32 %r5, 1, 2, %p1;" + OUT, False),
    ("lt and le exchanged", "and.b32 %r9, %r0, 6; @@ setp.lt.u32 %p1, %r9, 5; selp.b32 %r5, 1, 2, %p1;" + OUT, True),
    ("a store without its predicate", "mov.pred %p1, -1; @@ @%p1 st.global.b32 [%rd2], %r0;", True),
    ("a store without its predicate", "mov.pred %p1, -1; @@ @!%p1 st.global.b32 [%rd2], %r0;", False),
    ("a store without its predicate", "setp.lt.u32 %p1, %r0, 7; @@ @%p1 st.global.b32 [%rd2], %r0;", False),
    ("a store without its predicate", "and.b32 %r9, %r0, 6; setp.lt.u32 %p1, %r9, 7; @@ @%p1 st.global.b32 [%rd2], %r0;", True),
    ("a store without its predicate",
     "mov.u32 %r9, %ctaid.y; setp.eq.b32 %p1, %r9, 0; @@ @%p1 st.global.b32 [%rd2], %r0;", False),
    ("a store without its predicate",
     "mov.u32 %r9, %ctaid.z; setp.eq.b32 %p1, %r9, 0; @@ @%p1 st.global.b32 [%rd2], %r0;", True),
)  # fmt: skip


def test_what_adds_nothing_has_no_addend_to_lose():
    (adds, nothing) = parse(module("fma.rn.f32 %r5, %r6, %r7, %r8; fma.rn.f32 %r5, %r6, %r7, 0f00000000;")).statements[
        -3:-1
    ]
    change = KINDS["an fma without its addend"]
    assert change(adds, random.Random(0)) is not None and change(nothing, random.Random(0)) is None


@pytest.mark.parametrize(("kind", "body", "none"), CASES)
def test_equivalence_is_shown_where_there_is_nothing_to_order_and_only_there(kind: str, body: str, none: bool):
    first, marked = body.split("@@")
    index = len(parse(module(first)).statements) - 1  # but for the last, which returns
    kernel = parse(module(first + marked))
    after = KINDS[kind](kernel.statements[index], random.Random(0))
    assert after is not None, "the mark is where such a fault can be planted"
    assert bool(reason(kernel, index, after, (1, 2, 1))) == none


@pytest.mark.parametrize(("kind", "body", "none"), [case for case in CASES if case[0].endswith("dropped")])
def test_what_is_equivalent_breaks_no_rule(kind: str, body: str, none: bool):
    first, marked = body.split("@@")
    without = marked.strip().partition(";")[2]
    if none:
        assert rules(verdict(first + without)) == rules(verdict(first + marked))


def subject(body: str) -> planting.PlantedLaunch:
    memories = [DeviceMemory(name="array", content=np.zeros(1024, np.uint8))]
    program = assemble(module(body), 4096)
    return planting.PlantedLaunch(
        name="small", program=program, shared=4096, arguments=[Pointer(0)], memories=memories, grid=(1, 1, 1)
    )


STORE, CROSSING, READ = (
    "st.shared.b32 [%r4], {};",
    "st.shared.b32 [%r7], {};",
    "@@ bar.sync 0; ld.shared.b32 %r5, [{}];",
)


@pytest.mark.parametrize(
    ("accesses", "none"),
    [
        (STORE.format("%r0") + READ.format("%r4"), True),
        (STORE.format("%r0") + READ.format("%r7"), False),
        # The bits are there already, so that no rule fires and no number changes; and yet the barrier orders two warps.
        (STORE.format("5") + BARRIER + CROSSING.format("5") + READ.format("%r4"), False),
    ],
)
def test_a_barrier_that_another_warp_needs_is_no_equivalent_whatever_bits_it_finds(accesses: str, none: bool):
    first, marked = (ADDRESS + OTHER + "mov.b32 %r8, 5;" + accesses.replace(", 5;", ", %r8;") + OUT).split("@@")
    index = len(parse(module(first)).statements) - 1
    assert bool(planting.shown("a barrier dropped", subject(first + marked), index, 0)) == none


@pytest.mark.parametrize(("stored", "none"), [("%r8", True), ("%r0", False)])
def test_registers_that_are_equal_whenever_they_are_swapped_may_be_swapped(stored: str, none: bool):
    fill = ADDRESS + "mov.b32 %r8, 5;" + STORE.format(stored) + BARRIER
    load = "and.b32 %r6, %r0, 15; shl.b32 %r6, %r6, 4; add.s32 %r6, %r3, %r6;"
    load += "@@ ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r5, %r9}, [%r6];"
    first, marked = (fill + load + OUT).split("@@")
    index = len(parse(module(first)).statements) - 1
    kind = "two fragment registers swapped"
    assert bool(planting.shown(kind, subject(first + marked), index, 0)) == none
