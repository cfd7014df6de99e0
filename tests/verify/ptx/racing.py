"""A gated delta rule whose programs race: it is ours, and a kernel besides that writes one place from all its programs."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from deltaproof.kernels import gated_delta_rule


@triton.jit
def count(x):
    tl.store(x, tl.program_id(0).to(tl.float32))


def chunk_gdn(q, k, v, g, beta, initial_state=None, output_final_state=False):
    seen = torch.zeros(1, device=q.device)
    count[(4,)](seen)
    return gated_delta_rule(
        q, k, v, g, beta, initial_state=initial_state, output_final_state=output_final_state, variant="packed"
    )
