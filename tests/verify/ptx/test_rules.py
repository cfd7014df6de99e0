"""Every rule fires on a program that breaks it, and not on one that does the same and keeps it."""

from __future__ import annotations

import numpy as np
import pytest

from deltaproof.verify.ptx.rules import RULES
from deltaproof.verify.ptx.schedules import ALL

from .small import rules, verdict

ADDRESS = "mov.b32 %r3, smem; add.s32 %r4, %r3, %r2;"
OUT = "cvt.u64.u32 %d1, %r2; add.s64 %d2, %d0, %d1; st.global.b32 [%d2], %r5;"
OTHER = "xor.b32 %r6, %r2, 128; add.s32 %r7, %r3, %r6;"  # the same lane of the neighbouring warp

# Tiles for one product of a warpgroup: A and B at 0 and 2048, no swizzle, K-major, 64 x 16 and 8 x 16 of bf16.
FILL = (
    "mov.b32 %r3, smem; shl.b32 %r8, %r0, 4; add.s32 %r4, %r3, %r8; mov.b32 %r9, 0x3f803f80;"
    "st.shared.v4.b32 [%r4], {%r9, %r9, %r9, %r9}; st.shared.v4.b32 [%r4+2048], {%r9, %r9, %r9, %r9};"
)
# start >> 4, leading 128 bytes << 16, stride 256 bytes << 32
DESCRIPTORS = "mov.b64 %d4, 0x1000080000; mov.b64 %d5, 0x1000080080;"
ZERO = "mov.b32 %r20, 0; mov.b32 %r21, 0; mov.b32 %r22, 0; mov.b32 %r23, 0;"
MULTIPLY = (
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r20,%r21,%r22,%r23}, %d4, %d5, 1, 1, 1, 0, 0;"
    "wgmma.commit_group.sync.aligned;"
)
WAIT = "wgmma.wait_group.sync.aligned 0;"
READY = FILL + "fence.proxy.async.shared::cta; bar.sync 0;" + DESCRIPTORS + ZERO + "wgmma.fence.sync.aligned;"
RESULT = "mov.b32 %r5, %r20;" + OUT

MBARRIER = (
    "mov.b32 %r3, smem; setp.eq.u32 %p1, %r0, 0; @%p1 mbarrier.init.shared::cta.b64 [%r3], 128; {}"
    "mbarrier.arrive.shared::cta.b64 _, [%r3]; {{ .reg .pred done; again: mbarrier.try_wait.parity.shared.b64 done, [%r3], 0;"
    " @!done bra again; }}"
)
COPY = "cp.async.ca.shared.global [%r4], [%d2], 4; cp.async.commit_group; {}"
SOURCE = "cvt.u64.u32 %d1, %r2; add.s64 %d2, %d0, %d1;"

CASES = {
    "shared-read-write": (
        ADDRESS + OTHER + "st.shared.b32 [%r4], %r0; {} ld.shared.b32 %r5, [%r7];" + OUT, "", "bar.sync 0;",
    ),
    "shared-write-write": (ADDRESS + "and.b32 %r4, %r4, 127; st.shared.b32 [%r4], {};", "%r0", "77"),
    "shared-write-read": (
        ADDRESS + OTHER + "st.shared.b32 [%r4], %r0; bar.sync 0; ld.shared.b32 %r5, [%r7]; {} st.shared.b32 [%r4], 5;" + OUT,
        "", "bar.sync 0;",
    ),
    "operand-in-flight": (
        READY + MULTIPLY + "{} mov.b32 %r10, 7; st.shared.b32 [%r4], %r10;" + WAIT + RESULT, "", WAIT + "bar.sync 0;",
    ),
    "proxy-fence": (
        FILL + "{} bar.sync 0;" + DESCRIPTORS + ZERO + "wgmma.fence.sync.aligned;" + MULTIPLY + WAIT + RESULT, "",
        "fence.proxy.async.shared::cta;",
    ),
    "async-unordered": (
        FILL + "fence.proxy.async; {}" + DESCRIPTORS + ZERO + "wgmma.fence.sync.aligned;" + MULTIPLY + WAIT + RESULT, "",
        "bar.sync 0;",
    ),
    "unwritten": (ADDRESS + "{} ld.shared.b32 %r5, [%r4];", "", "st.shared.b32 [%r4], %r0;"),
    "result-unwritten": (ADDRESS + "{} ld.shared.b32 %r5, [%r4];" + OUT, "", "st.shared.b32 [%r4], %r0;"),
    "copy-read": (ADDRESS + SOURCE + COPY + "ld.shared.b32 %r5, [%r4];" + OUT, "", "cp.async.wait_group 0;"),
    "copy-write": (ADDRESS + SOURCE + COPY + "st.shared.b32 [%r4], %r0;", "", "cp.async.wait_all;"),
    "register-in-flight": (READY + MULTIPLY + "{} add.f32 %r20, %r20, %r21;" + WAIT + RESULT, "", WAIT),
    "register-fence": (
        READY + "add.f32 %r20, %r21, %r22; {}" + MULTIPLY + WAIT + RESULT, "", "wgmma.fence.sync.aligned;",
    ),
    "register-moved": (READY + "mov.b32 %r20, 0; {}" + MULTIPLY + WAIT + RESULT, "", "wgmma.fence.sync.aligned;"),
    "divergent-barrier": ("setp.lt.u32 %p1, %r0, {}; @%p1 bar.sync 0; @!%p1 bar.sync 0;", "16", "32"),
    "shared-bounds": (ADDRESS + "st.shared.b32 [%r4+{}], %r0;", "4000", "3000"),
    "global-bounds": (SOURCE + "st.global.b32 [%d2+{}], %r0;", "1000", "500"),
    "wild-address": ("mov.b64 %d1, {}; ld.global.b32 %r5, [%d1];", "4096", "%d0"),
    "shared-alignment": (ADDRESS + "st.shared.b32 [%r4+{}], %r0;", "2", "4"),
    "global-alignment": (SOURCE + "ld.global.b32 %r5, [%d2+{}];", "2", "4"),
    "deadlock": ("setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync {}, 128; @!%p1 bar.sync 2, 128;", "1", "2"),
    "endless": ("again: setp.eq.u32 %p1, %r0, {}; @%p1 bra again;", "%r0", "999"),
    "descriptor": (
        READY.replace("0x1000080080", "{}") + MULTIPLY + WAIT + RESULT, "0x10000803f8", "0x1000080080",
    ),
    "masked-collective": (
        "mov.b32 %r3, smem; setp.lt.u32 %p1, %r0, {}; @%p1 mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
        "{%r20,%r21,%r22,%r23}, {%r0,%r0}, {%r0}, {%r0,%r0,%r0,%r0};", "16", "128",
    ),
    "trap": ("setp.eq.u32 %p1, %r0, {}; @%p1 trap;", "3", "999"),
    "mbarrier": (MBARRIER, "", "bar.sync 0;"),
    "local-bounds": (".local .align 4 .b8 depot[16]; mov.b64 %d1, depot; st.local.b32 [%d1+{}], %r0;", "16", "12"),
    "unsupported": (READY + MULTIPLY + WAIT, "", "bar.sync 0;"),
}  # fmt: skip


def filled(body: str, word: str) -> str:
    return body.replace("{}", word).replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize("rule", [rule for rule in CASES if rule != "unsupported"])
def test_rule_fires_and_correct_code_does_not(rule: str):
    body, wrong, right = CASES[rule]
    found = verdict(filled(body, wrong))
    assert rule in rules(found), found.findings
    clean = verdict(filled(body, right))
    assert not clean.findings, list(map(str, clean.findings))


def test_products_need_whole_warpgroups():
    found = verdict(CASES["unsupported"][0].replace("{}", ""), threads=64)
    assert rules(found) >= {"unsupported"}


def test_operand_of_another_warpgroup_is_not_ordered_by_its_wait():
    both = READY.replace("shl.b32 %r8, %r0, 4", "and.b32 %r8, %r0, 127; shl.b32 %r8, %r8, 4") + MULTIPLY + WAIT
    second = "setp.ge.u32 %p1, %r0, 128; @%p1 st.shared.b32 [%r4], 7;" + RESULT
    out = np.zeros(256, np.uint32)
    assert rules(verdict(both + second, out, threads=256)) & {"operand-unordered", "operand-in-flight"}
    assert not verdict(both + "bar.sync 0;" + second, out, threads=256).findings


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("global-write-write", "mov.u32 %r5, %ctaid.x; add.s32 %r5, %r5, {};" + OUT),
        ("global-read-write", "mov.u32 %r5, %ctaid.x; setp.eq.u32 %p1, %r5, 1; {}" + SOURCE
         + "@%p1 ld.global.b32 %r6, [%d2]; @!%p1 st.global.b32 [%d2], 9;"),
    ],
)  # fmt: skip
def test_programs_of_a_launch_do_not_share_what_they_write(rule: str, body: str):
    found = verdict(body.replace("{}", "" if "setp" in body else "1"), grid=(2, 1, 1))
    assert rules(found) & {rule, "global-write-read"}
    alone = verdict(body.replace("{}", "" if "setp" in body else "1"), grid=(1, 1, 1))
    assert not alone.findings


def test_atomics_order_programs():
    body = (
        "setp.eq.u32 %p1, %r0, 0; mov.b32 %r6, 0; @!%p1 bra over; again: atom.global.acq_rel.gpu.cas.b32 %r5, [%d0], 0, 1;"
        " setp.ne.u32 %p2, %r5, 0; @%p2 bra again; ld.global.b32 %r7, [%d0+4]; add.s32 %r7, %r7, 1; {} [%d0+4], %r7;"
        " atom.global.acq_rel.gpu.exch.b32 %r5, [%d0], 0; over:"
    )
    array = np.zeros(256, np.uint32)
    assert not verdict(body.replace("{}", "st.global.b32"), array, grid=(4, 1, 1)).findings
    assert array[1] == 4
    unlocked = body.replace("acq_rel", "relaxed").replace("{}", "st.global.b32")
    assert rules(verdict(unlocked, grid=(4, 1, 1))) & {"global-read-write", "global-write-write"}


def test_barriers_of_some_warps_order_these_only():
    body = (
        ADDRESS + "xor.b32 %r6, %r2, 128; add.s32 %r7, %r3, %r6; st.shared.b32 [%r4], %r0; shr.u32 %r8, %r1, 1;"
        " add.s32 %r8, %r8, 1; bar.sync %r8, 64; ld.shared.b32 %r5, [{}];" + OUT
    )
    assert not verdict(body.replace("{}", "%r7")).findings
    across = ADDRESS + "xor.b32 %r6, %r2, 256; add.s32 %r7, %r3, %r6;" + body[len(ADDRESS) + len(OTHER) :]
    assert "shared-read-write" in rules(verdict(across.replace("{}", "%r7")))


def test_arrivals_order_who_waits():
    body = (
        ADDRESS + "setp.lt.u32 %p1, %r0, 64; @!%p1 bra consumer; st.shared.b32 [%r4], %r0; {} bra over; consumer:"
        " bar.sync 1, 128; add.s32 %r7, %r4, -256; ld.shared.b32 %r5, [%r7]; over:" + OUT
    )
    assert not verdict("mov.b32 %r5, 0;" + body.replace("{}", "bar.arrive 1, 128;")).findings
    assert "deadlock" in rules(verdict("mov.b32 %r5, 0;" + body.replace("{}", "")))


def test_same_bits_from_several_warps_are_no_conflict():
    body = (
        ADDRESS
        + "and.b32 %r4, %r4, 127; and.b32 %r5, %r0, 31; st.shared.b32 [%r4], %r5; ld.shared.b32 %r5, [%r4];"
        + OUT
    )
    assert not verdict(body).findings


def test_findings_say_where():
    found = verdict(
        ".loc 1 7 3 // kernel.py:7:3 @[ caller.py:9:1 ]\n" + CASES["shared-read-write"][0].replace("{}", "") + "\n",
        schedules=ALL,
    )
    (finding,) = [each for each in found.findings if each.rule == "shared-read-write"]
    assert finding.instruction.startswith("ld.shared.b32") and finding.other_instruction.startswith("st.shared.b32")
    assert len(set(finding.warps)) == 2 and finding.address is not None and finding.count > 1
    assert ":7 @ caller.py:9" in finding.source
    assert found.differences  # the race shows in the results, and both are kept


def test_every_rule_has_a_test():
    elsewhere = {
        "operand-unordered", "global-read-write", "global-write-write", "global-write-read", "unsupported", "result-order",
        "lint-operand-reuse", "lint-pending", "lint-proxy-fence", "lint-register-fence", "bulk-in-flight", "bulk-exit", "memory",
        "register-unwritten",
    }  # fmt: skip
    assert set(RULES) == set(CASES) | elsewhere
