"""The race that was in our own tables: products in flight read a tile that the next copy overwrites."""

from __future__ import annotations

import numpy as np
import pytest

from deltaproof.verify.compile.overlaps import products_in_flight
from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.machine import Argument, DeviceMemory, Pointer
from deltaproof.verify.ptx.schedules import QUICK
from deltaproof.verify.ptx.static.text import lint
from deltaproof.verify.ptx.verdict import PtxVerdict, judge

from .stored import packed_scores, read


def judged(name: str) -> PtxVerdict:
    program, arguments, memories, grid = packed_scores(name, 32768, 100, 64)
    verdict = judge(program, arguments, memories, grid, QUICK)
    pack = memories[4].content.view(np.uint16).astype(np.uint32) << 16
    assert np.isfinite(pack.view(np.float32)).all() and pack.any()
    return verdict


def test_two_stages_overwrite_a_tile_in_flight():
    verdict = judged("scores_in_flight")
    flight = [finding for finding in verdict.faults if finding.rule == "operand-in-flight"]
    assert flight and verdict.differences
    first = flight[0]
    assert first.instruction.startswith("cp.async") and first.other_instruction.startswith("wgmma.mma_async")
    assert "chunk.py" in first.source and "packed.py" in first.source and first.about.report


def test_one_stage_is_clean_and_the_same_in_every_order():
    verdict = judged("scores_one_stage")
    assert not verdict.findings and not verdict.differences


def test_the_static_rule_needs_no_run():
    assert "lint-operand-reuse" in {finding.rule for finding in lint(read("scores_in_flight"))}
    assert not lint(read("scores_one_stage"))
    assert products_in_flight(read("scores_in_flight")) and not products_in_flight(read("scores_one_stage"))


@pytest.mark.parametrize("gone", ["fence.proxy.async.shared::cta;", "wgmma.fence.sync.aligned;"])
def test_the_static_rules_miss_no_fence_that_a_loop_lacks(gone: str):
    whole = read("scores_one_stage")
    assert gone in whole
    found = {finding.rule for finding in lint(whole.replace(gone, ""))}
    assert found == {"lint-proxy-fence" if "proxy" in gone else "lint-register-fence"}


def gluon(groups: int) -> PtxVerdict:
    """docs/findings/triton_11047.py, as Triton 3.7.1 compiles it for sm_90, on random tiles."""
    turns, size = 3, 64
    program = assemble(read(f"gluon_{groups}_warpgroups"), 16384 + 8192 * groups)
    rng = np.random.default_rng(0)
    tiles = [
        (rng.standard_normal(count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        for count in (64 * groups * size, turns * size * size, turns * size * size)
    ]
    memories = [DeviceMemory(name=name, content=tile) for name, tile in zip("abc", tiles, strict=True)]
    memories.append(DeviceMemory(name="out", content=np.zeros(64 * groups * size * 4, np.uint8)))
    arguments: list[Argument] = [Pointer(i) for i in range(4)]
    arguments += [0] * (len(program.kernel.parameters) - 4)
    return judge(program, arguments, memories, (1, 1, 1), QUICK)


def test_a_wait_does_not_order_the_reads_of_another_warpgroup():
    assert not gluon(1).findings
    assert {finding.rule for finding in gluon(2).faults} >= {"operand-unordered"}


def test_a_pipelined_loop_without_a_proxy_fence():
    before, after = (
        {finding.rule for finding in lint(read(f"fla_dqkwg_triton_{version}"))} for version in ("370", "371")
    )
    assert "lint-proxy-fence" in before and "lint-proxy-fence" not in after
    assert "lint-operand-reuse" in after
