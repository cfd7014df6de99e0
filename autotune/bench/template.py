"""The matrix product that recorded landscapes timed: one program per tile of C, a pipelined loop over K, sums in fp32.

Written from the description of the recordings, so that the program compiled here has the shape of the one timed there.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["M"])
def matmul_kernel(
    A, B, C, M, N, K,
    stride_am, stride_ak, stride_bk, stride_bn,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BAND: tl.constexpr,
):  # fmt: skip
    """C [M, N] = A [M, K] B [K, N]; K is a multiple of BK. Bands of BAND rows of tiles are walked column by column."""
    tile = tl.program_id(0)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = tile // (BAND * columns) * BAND
    height = min(rows - first, BAND)
    m = (first + tile % height) * BM + tl.arange(0, BM)
    n = tile % (BAND * columns) // height * BN + tl.arange(0, BN)
    # Rows beyond the end read others' rows, so that no load has a mask.
    inside_m = tl.max_contiguous(tl.multiple_of(m % M, BM), BM)
    inside_n = tl.max_contiguous(tl.multiple_of(n % N, BN), BN)
    k = tl.arange(0, BK)
    left = A + inside_m[:, None] * stride_am + k[None, :] * stride_ak
    right = B + k[:, None] * stride_bk + inside_n[None, :] * stride_bn
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, K, BK):
        total = tl.dot(tl.load(left), tl.load(right), total)
        left += BK * stride_ak
        right += BK * stride_bk
    mask = (m[:, None] < M) & (n[None, :] < N)
    tl.store(C + m[:, None] * N + n[None, :], total.to(C.dtype.element_ty), mask=mask)
