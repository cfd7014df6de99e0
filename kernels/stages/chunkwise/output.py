"""Stage 4: the outputs of a chunk from the state before it and its own writes.

o = scale * Qbar S0 + Aqk R        (GDN-2 Eq. 44)
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...configs.launch_options import launch_options
from .operands import load_operand


@triton.jit
def output_kernel(
    queries,  # [tokens, HV, K]: Qbar
    aqk,  # [tokens, HV, C]
    h,  # [M, HV, K, V]
    r,  # [tokens, HV, V]
    o,  # [tokens, HV, V]
    chunks,  # [M, 2]
    scale,
    HV: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
):
    # One program: one (chunk, value head), BV columns of its outputs.
    i_c = tl.program_id(0).to(tl.int64)
    i_hv = tl.program_id(1)
    start = tl.load(chunks + 2 * i_c)
    rows = tl.load(chunks + 2 * i_c + 1)
    if rows == 0:
        return
    row = tl.arange(0, C)
    column = tl.program_id(2) * BV + tl.arange(0, BV)
    inside_v = (row[:, None] < rows) & (column[None, :] < V)
    out = tl.zeros([C, BV], tl.float32)
    for first in range(0, K, BK):
        channel = first + tl.arange(0, BK)
        query = load_operand(queries, start, rows, i_hv, row, channel, HV, K)
        at = ((i_c * HV + i_hv) * K + channel[:, None]) * V + column[None, :]
        state = tl.load(h + at, mask=(channel[:, None] < K) & (column[None, :] < V), other=0.0)
        out += tl.dot(query, state, input_precision="ieee")
    at = (start + row[:, None]) * HV + i_hv
    score = tl.load(aqk + at * C + row[None, :], mask=row[:, None] < rows, other=0.0)
    write = tl.load(r + at * V + column[None, :], mask=inside_v, other=0.0)
    out = scale * out + tl.dot(score, write, input_precision="ieee")
    tl.store(o + at * V + column[None, :], out.to(o.dtype.element_ty), mask=inside_v)


def output(
    call: Call, layout: Layout, queries: torch.Tensor, aqk: torch.Tensor, h: torch.Tensor, r: torch.Tensor
) -> torch.Tensor:
    """o [tokens, HV, V] in r's dtype."""
    shapes, tile = call.shapes, call.config.output
    block = min(tile.block, shapes.V_block)
    o = torch.empty_like(r)
    output_kernel[(layout.chunks.shape[0], shapes.HV, triton.cdiv(shapes.V, block))](
        queries=queries,
        aqk=aqk,
        h=h,
        r=r,
        o=o,
        chunks=layout.chunks,
        scale=call.scale,
        C=call.config.chunk_size,
        BK=min(tile.block, shapes.K_block),
        BV=block,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("HV", "K", "V"),
    )
    return o
