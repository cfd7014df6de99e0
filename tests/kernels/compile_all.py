"""Compile one configuration of every kernel for GPUs that are not there. Run by test_compile in a process of its own,
since kernels imported for the interpreter cannot be compiled."""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.errors import OutOfResources

from deltaproof.kernels import LaunchConfig
from deltaproof.kernels.decoding import TILE
from deltaproof.kernels.launches.compile import compile_launch, record
from deltaproof.kernels.launches.record import (
    VARIANTS,
    decode_launches,
    first_stage_launches,
    inference_launches,
    op_launches,
)
from deltaproof.results.schema.default import default_config
from deltaproof.specs.rule import RULES

SHARED_LIMIT = 99 * 1024
"""Bytes: the least of any GPU since sm_80 (sm_86, sm_89, sm_120). The default configuration must run everywhere."""


def launches(rule_name: str, ops: tuple[str, ...]):
    """What is launched where nothing is tuned; other variants under the same tiles."""
    rule = RULES[rule_name]
    served = {
        op: LaunchConfig.parse(default_config(op, "bf16", 128)) for op in ("chunk_fwd", "chunk_train", "recurrent")
    }
    found = [launch for op in ops for launch in op_launches(op, rule, "bf16", 128, 128, served[op])]
    # With raw inputs where that is more: normalisation and gate belong to these kernels.
    found += [
        launch
        for variant in VARIANTS
        for launch in inference_launches(variant, rule, "bf16", 128, 128, served["chunk_fwd"], normalise=True, raw=True)
    ]
    # In groups two stages are the same programs as without.
    grouped = replace(served["chunk_fwd"], group=16)
    found += [
        launch
        for launch in inference_launches("packed", rule, "bf16", 128, 128, grouped)
        if launch.name.startswith("group_")
    ]
    for v_first in (False, True):
        found += decode_launches(rule, "bf16", 128, 128, TILE, v_first=v_first, raw=True)
    return found + first_stage_launches(rule, "bf16", 128)


def compile_cell(cell: str) -> list[str]:
    """Every launch of "gdn2@90", or of its inference alone, "gdn2@90-inference"."""
    rule_name, _, rest = cell.partition("@")
    arch = int(rest.partition("-")[0])
    inference = ("chunk_fwd", "recurrent")
    lines = []
    for launch in launches(rule_name, inference if rest.endswith("-inference") else ("chunk_train", *inference)):
        binary = compile_launch(launch, GPUTarget("cuda", arch, 32))
        assert binary.shared <= SHARED_LIMIT, f"{launch.name} on sm_{arch}: {binary.shared} bytes of shared memory"
        # Left to choose, the assembler once took 32 registers and spilled kilobytes.
        assert binary.registers > 32 or not binary.stack, f"{launch.name} on sm_{arch}: {binary.stack} bytes of stack"
        threads = 32 * launch.options.get("num_warps", 4)
        assert threads * binary.registers <= 65_536, f"{launch.name} on sm_{arch}: {binary.registers} registers"
        uses_dots = launch.name in (
            "scores_kernel",
            "states_kernel",
            "output_kernel",
            "state_grads_kernel",
            "score_grads_kernel",
            "input_grads_kernel",
            "fused_kernel",
            "packed_scores_kernel",
            "packed_walk_kernel",
            "group_maps_kernel",
        )
        assert bool(binary.tensor_core) == uses_dots, f"{launch.name} on sm_{arch}: tensor cores {binary.tensor_core}"
        if arch == 90 and launch.name in ("fused_kernel", "packed_walk_kernel"):
            assert "wgmma" in binary.tensor_core, f"{launch.name}: {binary.tensor_core}"
        lines.append(f"{rule_name} sm_{arch} {launch.name} {binary.registers} registers, {binary.stack} B stack")
    return lines


@triton.jit(do_not_specialize=["count"])
def general_kernel(out, count):
    tl.store(out, count.to(tl.float32))


def compile_general() -> None:
    """A number that a kernel keeps general is no constant, though it is 1."""
    (launch,) = record(lambda: general_kernel[(1,)](torch.empty(1, device="meta"), 1))
    compile_launch(launch, GPUTarget("cuda", 90, 32))


def compile_too_much() -> None:
    """More tensor memory than there is fails, as it would on the device: the compiler says nothing, and leaves a trap."""
    (launch,) = inference_launches("fused", RULES["gdn2"], "bf16", 128, 128, LaunchConfig(chunk_size=64))
    with pytest.raises(OutOfResources, match="tensor memory"):
        compile_launch(launch, GPUTarget("cuda", 100, 32))


if __name__ == "__main__":
    compile_general()
    compile_too_much()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for lines in pool.map(compile_cell, sys.argv[1:]):
            print(*lines, sep="\n", flush=True)
