"""The chunkwise form as a pipeline of stages, forward and backward."""

from __future__ import annotations

from typing import TypedDict

import torch

from ..arguments.call import Call, Gradients
from ..arguments.layout import Layout
from ..arguments.shapes import Shapes
from ..configs.launch_config import LaunchConfig
from ..stages.chunkwise.input_grads import input_grads
from ..stages.chunkwise.operands import operands
from ..stages.chunkwise.output import output
from ..stages.chunkwise.score_grads import score_grads
from ..stages.chunkwise.scores import scores
from ..stages.chunkwise.state_grads import state_grads
from ..stages.chunkwise.states import walk_states


class _Places(TypedDict):
    """What every stage takes besides its tensors."""

    shapes: Shapes
    layout: Layout
    config: LaunchConfig


class _Setting(_Places):
    """And what most take."""

    scale: float


def _places(call: Call) -> _Places:
    """Once per pass: the layout is made by several launches."""
    return {"shapes": call.shapes, "layout": call.layout, "config": call.config}


def infer(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): scores, then one walk that writes the outputs; no state leaves the registers before the last."""
    places = _places(call)
    setting: _Setting = {"scale": call.scale, **places}
    aqk, a = scores(call.q, call.k, call.g, call.b, solver=call.solver, **setting)
    given = operands(call.q, call.k, call.g, call.b, **places)
    _, _, o, ht = walk_states(given, call.v, call.b, call.w, aqk, a, call.h0, final=final, **setting)
    return o, ht


def forward(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(o, ht, aqk, a): outputs [tokens, HV, V], final states (empty unless `final`), and the scores that backward needs."""
    places = _places(call)
    setting: _Setting = {"scale": call.scale, **places}
    aqk, a = scores(call.q, call.k, call.g, call.b, solver=call.solver, **setting)
    given = operands(call.q, call.k, call.g, call.b, **places)
    h, r, _, ht = walk_states(given, call.v, call.b, call.w, None, a, call.h0, final=final, **setting)
    return output(given.queries, aqk, h, r, **setting), ht, aqk, a


def backward(call: Call, aqk: torch.Tensor, a: torch.Tensor, do: torch.Tensor, dht: torch.Tensor | None) -> Gradients:
    """Gradients from do [tokens, HV, V] and dht [N, HV, K, V] or None. The states are walked again, not kept."""
    places = _places(call)
    setting: _Setting = {"scale": call.scale, **places}
    q, k, v, g, b, w, h0 = call.q, call.k, call.v, call.g, call.b, call.w, call.h0
    given = operands(q, k, g, b, **places)
    h, r, _, _ = walk_states(given, v, b, w, None, a, h0, final=False, **setting)
    dh, dx, dh0 = state_grads(given, aqk, a, do, dht, initial=h0 is not None, **setting)
    daqk, dt, dv, dw = score_grads(v, b, w, r, do, dx, **setting)
    dq, dk, dg, db = input_grads(q, k, g, b, r, h, do, dx, dh, daqk, dt, dw, **setting)
    return Gradients(q=dq, k=dk, v=dv, g=dg, b=db, w=None if w is None else dw, h0=None if h0 is None else dh0)
