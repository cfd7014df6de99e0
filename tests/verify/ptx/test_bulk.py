"""Copies of TMA: what they touch is theirs until it is known that they are over."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from deltaproof.verify.ptx.machine import Pointer, address_of

from .small import rules, verdict

START = "mov.b32 %r3, smem; setp.eq.u32 %p1, %r0, 0; add.s32 %r4, %r3, %r2; mov.b32 %r9, 0;"
OUT = "cvt.u64.u32 %d4, %r2; add.s64 %d5, %d2, %d4; st.global.b32 [%d5], %r5;"
LOAD = (
    START + "@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; bar.sync 0;"
    "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 128;"
    "@%p1 cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%r3+128], [%d0, {%r9}], [%r3];"
    "{} ld.shared.b32 %r5, [%r4+128];" + OUT
)
WAIT = "again: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra again;"
STORE = (
    START + "st.shared.b32 [%r4+128], %r0; {} bar.sync 0;"
    "@%p1 cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%d0, {%r9}], [%r3+128];"
    "@%p1 cp.async.bulk.commit_group; {wait} mov.b32 %r5, 0;" + OUT
)
FENCE, READ = "fence.proxy.async.shared::cta;", "@%p1 cp.async.bulk.wait_group.read 0;"


def run(body: str):
    """One warp; a map of 32 floats, the floats, and an array to write. Returns the verdict and the two arrays."""
    about = struct.pack(
        "<Q5i5i5i5i4q", address_of(Pointer(1)), 0, 7, 0, 0, 0, 32, 1, 1, 1, 1, 32, 1, 1, 1, 1, *[1] * 5, *[0] * 4
    )
    tensor, out = np.arange(100, 132, dtype=np.uint32), np.zeros(32, np.uint32)
    found = verdict(body, np.frombuffer(about.ljust(128, b"\0"), np.uint8).copy(), tensor, out, threads=32)
    return found, tensor, out


def test_a_load_is_over_when_its_mbarrier_says_so():
    found, tensor, out = run(LOAD.replace("{}", WAIT))
    assert not found.findings
    np.testing.assert_array_equal(out, tensor)
    assert "bulk-in-flight" in rules(run(LOAD.replace("{}", ""))[0])


def test_a_store_needs_the_proxy_fence_and_its_wait():
    found, tensor, _ = run(STORE.replace("{}", FENCE).replace("{wait}", READ))
    assert not found.findings
    np.testing.assert_array_equal(tensor, np.arange(32))
    assert "proxy-fence" in rules(run(STORE.replace("{}", "").replace("{wait}", READ))[0])
    assert "bulk-exit" in rules(run(STORE.replace("{}", FENCE).replace("{wait}", ""))[0])


@pytest.mark.parametrize("wait", [READ, ""])
def test_a_store_reads_until_it_was_waited_for(wait: str):
    again = STORE.replace("{}", FENCE).replace("{wait}", wait + "bar.sync 0; st.shared.b32 [%r4+128], 77;" + READ)
    assert ("bulk-in-flight" in rules(run(again)[0])) == (not wait)
