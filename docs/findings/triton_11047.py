"""Two warpgroups read one tile; each waits for its own products only, and the next copy overwrites the other's.

    verify launch docs/findings/triton_11047.py:call              operand-unordered, operand-in-flight
    verify launch docs/findings/triton_11047.py:one_warpgroup     nothing

Of the kind of https://github.com/triton-lang/triton/issues/11047. In gluon, as the report: the barrier that the compiler
puts before the second product's fence lies between the issue of the first and its wait, and none follows the wait.
"""

import torch
import triton.experimental.gluon as gluon
import triton.experimental.gluon.language as gl
from triton.experimental.gluon.language.nvidia import hopper
from triton.experimental.gluon.language.nvidia.ampere import async_copy


@gluon.jit
def two_products_kernel(a, b, c, out, TURNS: gl.constexpr, GROUPS: gl.constexpr, D: gl.constexpr):
    # One program: out = the sum over turns of a @ b[turn] + a @ c[turn]; 64 rows for each warpgroup.
    ROWS: gl.constexpr = 64 * GROUPS
    result: gl.constexpr = gl.NVMMADistributedLayout([3, 0], warps_per_cta=[4 * GROUPS, 1], instr_shape=[16, D, 16])
    load: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4 * GROUPS, 1], [1, 0])
    left = gl.allocate_shared_memory(
        gl.bfloat16, [ROWS, D], gl.NVMMASharedLayout.get_default_for([ROWS, D], gl.bfloat16)
    )
    tile: gl.constexpr = gl.NVMMASharedLayout.get_default_for([D, D], gl.bfloat16)
    first, second = (
        gl.allocate_shared_memory(gl.bfloat16, [D, D], tile),
        gl.allocate_shared_memory(gl.bfloat16, [D, D], tile),
    )
    row, column = gl.arange(0, D, layout=gl.SliceLayout(1, load)), gl.arange(0, D, layout=gl.SliceLayout(0, load))
    at = row[:, None] * D + column[None, :]
    async_copy.async_copy_global_to_shared(
        left, a + gl.arange(0, ROWS, layout=gl.SliceLayout(1, load))[:, None] * D + column[None, :]
    )
    async_copy.commit_group()
    async_copy.wait_group(0)
    acc = gl.zeros([ROWS, D], gl.float32, result)
    for turn in range(TURNS):
        async_copy.async_copy_global_to_shared(first, b + turn * D * D + at)
        async_copy.commit_group()
        async_copy.async_copy_global_to_shared(second, c + turn * D * D + at)
        async_copy.commit_group()
        async_copy.wait_group(1)
        hopper.fence_async_shared()
        acc = hopper.warpgroup_mma(left, first, acc, is_async=True)
        async_copy.wait_group(0)
        hopper.fence_async_shared()
        acc = hopper.warpgroup_mma(left, second, acc, is_async=True)
        acc = hopper.warpgroup_mma_wait(num_outstanding=0, deps=(acc,))
    rows, columns = (
        gl.arange(0, ROWS, layout=gl.SliceLayout(1, result)),
        gl.arange(0, D, layout=gl.SliceLayout(0, result)),
    )
    gl.store(out + rows[:, None] * D + columns[None, :], acc)


def call(groups: int = 2, turns: int = 3, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    a, b, c = (
        torch.randn(*shape, generator=generator).bfloat16()
        for shape in ((64 * groups, size), (turns, size, size), (turns, size, size))
    )
    out = torch.zeros(64 * groups, size)
    two_products_kernel[(1,)](a, b, c, out, turns, groups, size, num_warps=4 * groups)
    return out


def one_warpgroup() -> torch.Tensor:
    return call(groups=1)
