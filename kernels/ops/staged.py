"""The chunkwise form as a pipeline of stages, forward and backward."""

from __future__ import annotations

import torch

from ..arguments.call import Call, Gradients
from ..stages.chunkwise.input_grads import input_grads
from ..stages.chunkwise.operands import operands
from ..stages.chunkwise.output import output
from ..stages.chunkwise.score_grads import score_grads
from ..stages.chunkwise.scores import scores
from ..stages.chunkwise.state_grads import state_grads
from ..stages.chunkwise.states import walk_states


def infer(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): scores, then one walk that writes the outputs; no state leaves the registers before the last."""
    layout = call.layout
    aqk, a = scores(call, layout)
    _, _, o, ht = walk_states(call, layout, operands(call, layout), aqk, a, final=final)
    return o, ht


def forward(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(o, ht, aqk, a): outputs [tokens, HV, V], final states (empty unless `final`), and the scores that backward needs."""
    layout = call.layout
    aqk, a = scores(call, layout)
    given = operands(call, layout)
    h, r, _, ht = walk_states(call, layout, given, None, a, final=final)
    return output(call, layout, given.queries, aqk, h, r), ht, aqk, a


def backward(call: Call, aqk: torch.Tensor, a: torch.Tensor, do: torch.Tensor, dht: torch.Tensor | None) -> Gradients:
    """Gradients from do [tokens, HV, V] and dht [N, HV, K, V] or None. The states are walked again, not kept."""
    layout = call.layout
    given = operands(call, layout)
    h, r, _, _ = walk_states(call, layout, given, None, a, final=False)
    dh, dx, dh0 = state_grads(call, layout, given, aqk, a, do, dht)
    daqk, dt, dv, dw = score_grads(call, layout, r, do, dx)
    dq, dk, dg, db = input_grads(call, layout, r, h, do, dx, dh, daqk, dt, dw)
    return Gradients(
        q=dq, k=dk, v=dv, g=dg, b=db, w=None if call.w is None else dw, h0=None if call.h0 is None else dh0
    )
