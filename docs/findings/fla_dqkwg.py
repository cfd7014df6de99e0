"""FLA's `chunk_bwd_dqkwg` on Hopper, with blocks of 32 or 64 and four warps (fla-core 0.6.0, two stages).

    verify launch docs/findings/fla_dqkwg.py:call

- Triton 3.4.0 to 3.7.0: proxy-fence. No fence.proxy.async in the pipelined loop, as
  https://github.com/fla-org/flash-linear-attention/issues/640 reports from wrong gradients; seen here with 3.7.0.
- Triton 3.7.0 and 3.7.1: operand-in-flight. A tile that two asynchronous products read has one buffer; the wait leaves the
  later one in flight, and the next turn's cp.async overwrites what it reads.
- With blocks of 128, or with two warps (no asynchronous products): nothing, under either.

FLA itself refuses Triton before 3.7.1 here; the call takes that guard away to show what it guards against.
"""

import torch
import torch.nn.functional as F
import triton


def call(block: int = 32, warps: int = 4) -> None:
    import fla.ops.common.chunk_o as chunk_o
    from triton.runtime.autotuner import Autotuner

    chunk_o.TRITON_ABOVE_3_7_1 = True
    chunk_o.check_shared_mem = lambda arch="none", *_: arch == {128: "hopper", 64: "ada", 32: "none"}[block]
    kernel = chunk_o.chunk_bwd_kernel_dqkwg
    while not isinstance(kernel, Autotuner):
        kernel = kernel.fn
    kernel.configs = [triton.Config({}, num_warps=warps, num_stages=2)]
    generator = torch.Generator().manual_seed(0)
    T, K = 64, 100

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator).half()

    q, k = F.normalize(random(T, 1, K), dim=-1), F.normalize(random(T, 1, K), dim=-1)
    chunk_o.chunk_bwd_dqkwg(
        q=q, k=k, v=random(T, 1, K), do=random(T, 1, K), h=random(1, 1, K, K), dh=random(1, 1, K, K), w=random(T, 1, K),
        g=-torch.rand(1, T, 1, generator=generator).cumsum(1) / 10, dv=random(T, 1, K), scale=K**-0.5, chunk_size=64,
    )  # fmt: skip


def wide() -> None:
    call(block=128)


def two_warps() -> None:
    call(block=64, warps=2)
