"""The layer of CARVE (arXiv 2606.27229)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments.axes import check_flags
from ..relatives.carve import CHUNK_SIZE, carve
from .config import LARGEST_SIZE, MixerConfig, config_or
from .mixer import Mixer, low_rank


class Carve(Mixer):
    """CARVE: Gated DeltaNet-2 with one write gate per value head, and an erase gate that sees the layer's recent outputs.

        b = sigmoid(x W_b + m read lift) [.., HV, K], m the mean output of the previous chunk of `chunk_size` tokens
        w = sigmoid(x W_w) [.., HV]
        g = as in Gated DeltaNet-2

    rank: of the content map; the paper does not state it. per_head: each value head has its own map, else all share one.
    stop_gradient: whether m is a constant to the backward pass; the paper does not say, and by default it is not.
    `lift` is zero at first, so that the layer starts as Gated DeltaNet-2 with a scalar write gate; `read` is not, or
    neither would ever learn. The chunk size is part of the function: it belongs to the weights. torch.compile makes one
    graph for each length, and wants dynamic=False.
    """

    def __init__(
        self,
        config: MixerConfig | None = None,
        *,
        rank: int = 16,
        per_head: bool = True,
        chunk_size: int = CHUNK_SIZE,
        stop_gradient: bool = False,
    ):
        c = config_or(MixerConfig(), config)
        for name, size in (("rank", rank), ("chunk_size", chunk_size)):
            if type(size) is not int or not 1 <= size <= LARGEST_SIZE:
                raise ValueError(f"{name} is {size!a:.60}; accepted: from 1 to {LARGEST_SIZE}, a whole number")
        check_flags(per_head=per_head, stop_gradient=stop_gradient)
        super().__init__(c, decay_heads=c.num_heads, decay_channels=c.head_dim, low_rank_gate=True)
        self.chunk_size = chunk_size
        self.stop_gradient = stop_gradient
        self.f_proj = low_rank(c.hidden_size, c.value_channels, c.key_size)
        self.b_proj = nn.Linear(c.hidden_size, c.key_size, bias=False)
        self.w_proj = nn.Linear(c.hidden_size, c.value_heads, bias=False)
        maps = (c.value_heads,) if per_head else ()
        self.read = nn.Parameter(torch.empty(*maps, c.value_channels, rank))
        self.lift = nn.Parameter(torch.empty(*maps, rank, c.head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        bound = 1 / math.sqrt(self.config.value_channels)
        nn.init.uniform_(self.read, -bound, bound)
        nn.init.zeros_(self.lift)

    def _recur(
        self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, memory: Any, cu_seqlens: Tensor | None, keep: bool
    ) -> tuple[Tensor, Any]:
        c = self.config
        return carve(
            q,
            k,
            v,
            b=self.b_proj(x).unflatten(-1, (c.num_heads, c.head_dim)),
            w=torch.sigmoid(self.w_proj(x)),
            read=self.read,
            lift=self.lift,
            chunk_size=self.chunk_size,
            cache=memory,
            output_cache=keep,
            cu_seqlens=cu_seqlens,
            erase_max=2.0 if c.negative_eigenvalues else 1.0,
            stop_gradient=self.stop_gradient,
            use_qk_l2norm_in_kernel=True,
            disable_recompute=c.disable_recompute,
            **self._raw_decay(self.f_proj(x), c.num_heads),
        )
