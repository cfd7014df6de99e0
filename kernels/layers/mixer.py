"""The common parts of the mixers: projections, convolutions, output norm and gate, padding, decoding."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..api import gated_delta_rule
from ..arguments.axes import check_state, dense, sort_of
from ..arguments.checks import check_boundaries
from ..arguments.contents import check_contents
from ..arguments.precision import widen
from .cache import MixerCache, Windows
from .config import GateActivation, MixerConfig
from .conv import ShortConvolution
from .decay import decay_parameter, reset_decay
from .norm import GatedRMSNorm
from .padding import make_packing, pack, unpack


class Mixer(nn.Module):
    """A token mixer around the gated delta rule. Concrete layers add the projections of their gates.

    With x [B, T, hidden_size], and SiLU after each convolution (or in its place):

        q, k, v = silu(conv(x W))    q, k divided by their norms
        o       = gated delta rule(q, k, v, gates of x)
        y       = (rmsnorm(o) * activation(gate of x)) W_o

    Names of parameters are those of flash-linear-attention 0.6.0, whose checkpoints therefore load (`from_fla`).

    Linear maps and convolutions run in the dtype of the parameters, or that of autocast; the decay, the norms and the
    states in fp32 (fp64 for fp64); outputs have the dtype of the linear maps. `forward` and `decode` compile as one graph;
    a mask has as many tokens as it says, which breaks the graph, and so do cu_seqlens on a CPU.
    """

    default_activation: ClassVar[GateActivation] = "silu"
    smallest_rate: ClassVar[float] = 1.0
    """Lower end of the first exp(A_log)."""

    def __init__(self, config: MixerConfig, *, decay_heads: int, decay_channels: int, low_rank_gate: bool):
        super().__init__()
        c = self.config = config
        self.q_proj = nn.Linear(c.hidden_size, c.key_size, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.key_size, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.value_size, bias=False)
        if c.conv_size:
            self.q_conv1d = ShortConvolution(c.key_size, c.conv_size, bias=c.conv_bias)
            self.k_conv1d = ShortConvolution(c.key_size, c.conv_size, bias=c.conv_bias)
            self.v_conv1d = ShortConvolution(c.value_size, c.conv_size, bias=c.conv_bias)
        self.A_log = decay_parameter(decay_heads)
        self.dt_bias = decay_parameter(decay_heads * decay_channels)
        activation = c.gate_activation or self.default_activation
        if activation != "none" and low_rank_gate:
            self.g_proj = low_rank(c.hidden_size, c.value_channels, c.value_size, bias=True)
        elif activation != "none":
            self.g_proj = nn.Linear(c.hidden_size, c.value_size, bias=False)
        else:
            self.g_proj = None
        self.o_norm = GatedRMSNorm(c.value_channels, activation=activation, eps=c.norm_eps)
        self.o_proj = nn.Linear(c.value_size, c.hidden_size, bias=False)

    def reset_parameters(self) -> None:
        """Draw every parameter anew, as after `to_empty` for a layer that was built on the meta device."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                module.reset_parameters()
            if isinstance(module, nn.Linear) and self.config.init_gain is not None:
                nn.init.xavier_uniform_(module.weight, gain=self.config.init_gain)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.ones_(self.o_norm.weight)
        reset_decay(self.A_log, self.dt_bias, smallest=self.smallest_rate)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, cu_seqlens: Tensor | None = None) -> Tensor:
        """Mix x [B, T, hidden_size], each row from an empty memory: [B, T, hidden_size].

        mask: [B, T], 0 or false at padding, wherever it is; the tokens are packed, and outputs at padding are 0.
        cu_seqlens: [N + 1] boundaries of N sequences that are packed into one row already (B = 1).
        Raises ValueError, in one line, for shapes that do not fit.
        """
        if mask is not None and cu_seqlens is not None:
            raise ValueError("mask and cu_seqlens are both given; accepted: one of them")
        return self._run(x, None, mask, cu_seqlens, keep=False)[0]

    def decode(
        self, x: Tensor, cache: MixerCache | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, MixerCache]:
        """Continue B sequences by x [B, T, hidden_size], T tokens each: outputs, and the cache after them.

        cache: the cache that the call before returned; None to begin, so that the first call is the prefill. The tokens may be
        cut anywhere: outputs are those of one `forward` over all of them.
        mask: as in `forward`; of a mask that is longer than T, the last T columns count.
        """
        y, after = self._run(x, cache, mask, None, keep=True)
        assert after is not None  # it is kept
        return y, after

    def _run(
        self, x: Tensor, cache: MixerCache | None, mask: Tensor | None, cu_seqlens: Tensor | None, *, keep: bool
    ) -> tuple[Tensor, MixerCache | None]:
        if not dense(x) or not x.dtype.is_floating_point:
            raise TypeError(f"x is {sort_of(x)}; accepted: a dense floating-point tensor")
        if x.device != self.o_proj.weight.device:
            raise ValueError(f"x is on {x.device}; accepted: {self.o_proj.weight.device}, where the layer is")
        check_state("cache", cache, MixerCache)
        if x.dim() != 3 or x.shape[2] != self.config.hidden_size:
            raise ValueError(f"x has shape {list(x.shape)}; accepted: [B, T, {self.config.hidden_size}]")
        weights = self.o_proj.weight.dtype
        if x.dtype != weights and weights.is_floating_point and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f"x is {sort_of(x)}; accepted: the layer's {sort_of(self.o_proj.weight)}, or any under autocast"
            )
        check_boundaries(cu_seqlens, None, x.shape[0], x.device)
        check_contents(None, None, cu_seqlens, None, x.shape[1], check_values=None)
        if cache is not None and cache.sequences != x.shape[0]:
            raise ValueError(f"x has {x.shape[0]} rows; accepted: {cache.sequences}, the sequences of the cache")
        packing = None
        if mask is not None:
            packing = make_packing(mask, x.shape[0], x.shape[1])
            x, cu_seqlens = pack(x, packing), packing.cu_seqlens
        q, k, v, windows = self._project(x, None if cache is None else cache.windows, cu_seqlens)
        o, memory = self._recur(x, q, k, v, None if cache is None else cache.memory, cu_seqlens, keep)
        gate = None if self.g_proj is None else self.g_proj(x).unflatten(-1, o.shape[2:])
        y = self.o_proj(self.o_norm(o, gate).flatten(-2))
        y = y if packing is None else unpack(y, packing)
        if not keep:
            return y, None
        # Copies: a window may be a view of all inputs of its convolution, which would stay in memory with it.
        return y, MixerCache(memory, None if windows is None else Windows(*(window.clone() for window in windows)))

    def _project(
        self, x: Tensor, windows: Windows | None, cu_seqlens: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Windows | None]:
        """q, k [B, T, H, K], v [B, T, HV, V], and the windows after x."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        after = None
        if self.config.conv_size:
            before = (None, None, None) if windows is None else windows
            q, after_q = self.q_conv1d(q, before[0], cu_seqlens)
            k, after_k = self.k_conv1d(k, before[1], cu_seqlens)
            v, after_v = self.v_conv1d(v, before[2], cu_seqlens)
            after = Windows(after_q, after_k, after_v)
        else:
            q, k, v = F.silu(q), F.silu(k), F.silu(v)
        q, k = (y.unflatten(-1, (self.config.num_heads, self.config.head_dim)) for y in (q, k))
        return q, k, v.unflatten(-1, (self.config.value_heads, self.config.value_channels)), after

    def _recur(
        self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, memory: Any, cu_seqlens: Tensor | None, keep: bool
    ) -> tuple[Tensor, Any]:
        """o [B, T, HV, V], and the memory after x (None unless `keep`)."""
        return gated_delta_rule(
            q,
            k,
            v,
            **self.gates(x),
            initial_state=memory,
            output_final_state=keep,
            cu_seqlens=cu_seqlens,
            use_qk_l2norm_in_kernel=True,
            disable_recompute=self.config.disable_recompute,
        )

    def gates(self, x: Tensor) -> dict[str, Any]:
        """The arguments of `gated_delta_rule` that are this layer's gates."""
        raise NotImplementedError

    def _raw_decay(self, f: Tensor, heads: int) -> dict[str, Any]:
        """Arguments for a decay of -exp(A_log) softplus(f + dt_bias), f [B, T, heads * channels]."""
        return {
            "g": f if self.dt_bias.shape == self.A_log.shape else f.unflatten(-1, (heads, -1)),
            "A_log": widen(self.A_log),
            "dt_bias": widen(self.dt_bias),
            "use_gate_in_kernel": True,
        }

    def _in_unit_interval(self, raw: Tensor) -> Tensor:
        """The erase gate: sigmoid, or twice that with negative eigenvalues."""
        gate = torch.sigmoid(raw)
        return gate * 2 if self.config.negative_eigenvalues else gate


def low_rank(inputs: int, rank: int, outputs: int, *, bias: bool = False) -> nn.Sequential:
    """inputs -> rank -> outputs, a bias at most on the second map."""
    return nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=bias))
