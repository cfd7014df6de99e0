"""The chunkwise form as a pipeline of stages, forward and backward."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..arguments.call import Call, Gradients
from ..stages.chunkwise.input_grads import input_grads
from ..stages.chunkwise.operands import operands
from ..stages.chunkwise.output import output
from ..stages.chunkwise.score_grads import score_grads
from ..stages.chunkwise.scores import scores
from ..stages.chunkwise.state_grads import state_grads
from ..stages.chunkwise.states import walk_states
from .kept import Kept


def infer(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): scores, then one walk that writes the outputs; no state leaves the registers before the last."""
    layout = call.layout
    aqk, a = scores(call, layout)
    _, _, o, ht = walk_states(call, layout, operands(call, layout), aqk, a, final=final)
    return o, ht


def forward(call: Call, *, final: bool, disable_recompute: bool) -> tuple[torch.Tensor, torch.Tensor, Kept]:
    """(o, ht, kept): outputs [tokens, HV, V], final states (empty unless `final`), and what `backward` reads."""
    layout = call.layout
    aqk, a = scores(call, layout)
    given = operands(call, layout)
    h, r, _, ht = walk_states(call, layout, given, None, a, final=final)
    o = output(call, layout, given.queries, aqk, h, r)
    walked = (given, h, r) if disable_recompute else (None, None, None)
    return o, ht, Kept.of(layout.table, aqk, a, *walked)


def backward(call: Call, kept: Kept, do: torch.Tensor, dht: torch.Tensor | None) -> Gradients:
    """Gradients from do [tokens, HV, V] and dht [N, HV, K, V] or None. The states are walked again, unless they were kept."""
    if kept.table.numel():
        call = replace(call, table=kept.table)
    layout, aqk, a = call.layout, kept.aqk, kept.a
    if kept.walked is not None:
        given, h, r = kept.walked
    else:
        given = operands(call, layout)
        h, r, _, _ = walk_states(call, layout, given, None, a, final=False)
    dh, dx, dh0 = state_grads(call, layout, given, aqk, a, do, dht)
    daqk, dt, dv, dw = score_grads(call, layout, r, do, dx)
    dq, dk, dg, db = input_grads(call, layout, r, h, do, dx, dh, daqk, dt, dw)
    return Gradients(
        q=dq, k=dk, v=dv, g=dg, b=db, w=None if call.w is None else dw, h0=None if call.h0 is None else dh0
    )
