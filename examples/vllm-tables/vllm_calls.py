"""vLLM's gated delta rule as its server calls it, under the names and in the layout that `autotune --target` knows.

The kernels are vLLM's, unedited. Its states are [N, HV, V, K]; ours are [N, HV, K, V].
"""

from vllm.third_party.flash_linear_attention.ops import chunk_gated_delta_rule
from vllm.utils import torch_utils

torch_utils.PIN_MEMORY = False  # host memory is pinned for copies to a device, and there need not be one here


def gdn_prefill(q, k, v, g, beta, initial_state=None, output_final_state=False, cu_seqlens=None):
    """q, k [B, T, H, K], v [B, T, HV, V], g and beta [B, T, HV]; o [B, T, HV, V] and the states after the last tokens."""
    o, state = chunk_gated_delta_rule(
        q, k, v, g, beta, initial_state=None if initial_state is None else initial_state.mT.contiguous(),
        output_final_state=output_final_state, cu_seqlens=cu_seqlens,
    )  # fmt: skip
    return o, None if state is None else state.mT.contiguous()
