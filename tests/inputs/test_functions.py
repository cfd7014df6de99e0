"""Every public function, with each of its arguments made wrong: our own ValueError or TypeError, one line that names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from deltaproof.kernels import LaunchConfig, Tile, chunk_indices, decode, fla_names, gated_delta_rule, relatives, rules
from deltaproof.kernels.layers import Carve, GatedDeltaNet, GatedDeltaNet2, KimiDeltaAttention, MixerConfig, from_fla
from deltaproof.results import lookup
from tests.helpers.bad_values import ANYTHING, bad_arguments, bad_tensors
from tests.helpers.limits import limited, refusal

SIZES = {"B": 2, "T": 5, "H": 2, "HV": 4, "K": 3, "V": 6, "R": 7, "n": 7, "r": 8, "N": 2, "S": 9, "J": 1, "D": 10}
AXES = {
    "q": "B T H K", "k": "B T H K", "v": "B T HV V", "g": "B T HV K", "b": "B T HV K", "w": "B T HV V", "beta": "B T HV",
    "dt": "B T HV", "lam": "B T HV", "theta": "B T H J", "d": "HV", "g_atk": "B T H", "beta_atk": "B T H", "a": "B T HV K",
    "kk": "B T HV K", "read": "V r", "lift": "r K", "initial_state": "N HV K V", "states": "S HV K V",
}  # fmt: skip
"""The axes of arguments; what a function has otherwise is with it."""


def tensors(names: str, **axes: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    shapes = {name: [SIZES[axis] for axis in (AXES | axes)[name].split()] for name in names.split()}
    found = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return {name: -x if name in ("g", "g_atk") else x for name, x in found.items()}


SCALAR = {"g": "B T HV", "beta": "B T HV", "w": "B T HV"}
LAYER = MixerConfig(hidden_size=8, num_heads=2, head_dim=4)
PLAIN = {"q": "B T HV K", "k": "B T HV K"}
SEVERAL = {"k": "B T n H K", "v": "B T n HV V", "beta": "B T n HV", "g": "B T HV"}
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "gated_delta_rule": (gated_delta_rule, tensors("q k v g b w initial_state")),
    "gdn2": (rules.gdn2, tensors("q k v g b w")),
    "kda": (rules.kda, tensors("q k v g beta")),
    "gdn": (rules.gdn, tensors("q k v g beta", **SCALAR)),
    "delta_rule": (rules.delta_rule, tensors("q k v beta")),
    "gla": (rules.gla, tensors("q k v g")),
    "mamba2": (rules.mamba2, tensors("q k v g dt", **SCALAR)),
    "linear": (rules.linear, tensors("q k v")),
    "comba": (relatives.comba, tensors("q k v g beta d", **SCALAR)),
    "gated_delta_product": (relatives.gated_delta_product, tensors("q k v g beta", **SEVERAL)),
    "longhorn": (relatives.longhorn, tensors("q k v beta")),
    "mamba3": (relatives.mamba3, tensors("q k v g dt lam theta", **SCALAR)),
    "mamba3_mimo": (
        relatives.mamba3_mimo,
        tensors("q k v g dt lam theta", q="B T R H K", k="B T R H K", v="B T R HV V", g="B T HV"),
    ),
    "preconditioned_delta_rule": (
        relatives.preconditioned_delta_rule, tensors("q k v g beta g_atk beta_atk"),
    ),
    "retention": (relatives.retention, tensors("q k v")),
    "rwkv7": (relatives.rwkv7, {"r": torch.rand(2, 5, 4, 3)} | tensors("k v kk a", **PLAIN) | {"w": -torch.rand(2, 5, 4, 3)}),
    "carve": (relatives.carve, tensors("q k v g b w read lift", w="B T HV")),
    "decode": (decode, tensors("q k v g b w states") | {"slots": torch.tensor([3, 5])}),
    "chunk_indices": (chunk_indices, {"cu_seqlens": torch.tensor([0, 2, 5]), "tokens": 5}),
    "lookup": (
        lookup,
        {"op": "chunk_fwd", "rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 8192, "heads": 16, "gpu": "H100"},
    ),
    "Tile": (Tile, {"block": 32}),
    "LaunchConfig": (LaunchConfig, {"chunk_size": 64}),
    "LaunchConfig.parse": (LaunchConfig.parse, {"token": "c64,states=64x4x2"}),
    "MixerConfig": (MixerConfig, {"hidden_size": 8, "num_heads": 2, "head_dim": 4}),
    "from_fla": (from_fla, {"kind": GatedDeltaNet, "state": GatedDeltaNet(LAYER).state_dict()}),
    **{kind.__name__: (kind, {"config": LAYER})
       for kind in (GatedDeltaNet2, KimiDeltaAttention, GatedDeltaNet, Carve)},
}  # fmt: skip


RAW_GATE = {"use_gate_in_kernel": True, "A_log": torch.zeros(4), "dt_bias": torch.zeros(12), "lower_bound": -5.0}
RAW_SCALAR_GATE = RAW_GATE | {"dt_bias": torch.zeros(4)}
LOGITS = {"use_beta_sigmoid_in_kernel": True, "allow_neg_eigval": True}
VALUES_FIRST = {"initial_state": torch.rand(2, 4, 6, 3), "state_v_first": True, "output_final_state": True}
TWO_ROWS = {"k": "B D H K", "v": "B D HV V", "beta": "B D HV", "g": "B T HV"}
OF_RWKV = {"r": torch.rand(2, 5, 4, 3), "w": -torch.rand(2, 5, 4, 3)}
PRECONDITIONED = (
    tensors("q k v g beta g_atk beta_atk") | VALUES_FIRST | {"initial_A_state": torch.rand(2, 2, 3), "x": 2.0}
)
FLA: dict[Callable[..., Any], dict[str, Any]] = {
    fla_names.chunk_gdn2: tensors("q k v g b w") | RAW_GATE | VALUES_FIRST,
    fla_names.fused_recurrent_gdn2: tensors("q k v g b w") | RAW_GATE | VALUES_FIRST,
    fla_names.chunk_kda: tensors("q k v g beta") | RAW_GATE | LOGITS | VALUES_FIRST,
    fla_names.fused_recurrent_kda: tensors("q k v g beta initial_state") | RAW_GATE | LOGITS,
    fla_names.chunk_gated_delta_rule: tensors("q k v g beta", **SCALAR) | RAW_SCALAR_GATE | LOGITS | VALUES_FIRST,
    fla_names.fused_recurrent_gated_delta_rule: tensors("q k v g beta", **SCALAR) | {"gk": -torch.rand(2, 5, 4, 3)},
    fla_names.chunk_delta_rule: tensors("q k v beta") | VALUES_FIRST,
    fla_names.fused_recurrent_delta_rule: tensors("q k v initial_state"),
    fla_names.chunk_gla: tensors("q k v g") | VALUES_FIRST,
    fla_names.fused_recurrent_gla: tensors("q k v") | {"gk": -torch.rand(2, 5, 4, 3)},
    fla_names.chunk_simple_gla: tensors("q k v g", g="B T HV") | {"g_gamma": -torch.rand(4)},
    fla_names.fused_recurrent_simple_gla: tensors("q k v") | {"g_gamma": -torch.rand(4)},
    fla_names.chunk_retention: tensors("q k v") | VALUES_FIRST,
    fla_names.fused_recurrent_retention: tensors("q k v") | {"cu_seqlens": None, "chunk_size": 32},
    fla_names.chunk_linear_attn: tensors("q k v") | {"normalize": False},
    fla_names.fused_recurrent_linear_attn: tensors("q k v") | {"normalize": False},
    fla_names.chunk_gated_delta_product: tensors("q k v g beta", **TWO_ROWS) | {"num_householder": 2},
    fla_names.chunk_comba: tensors("q k v g beta p", p="B T H K", **SCALAR) | {"check_values": False} | VALUES_FIRST,
    fla_names.chunk_rwkv7: OF_RWKV | tensors("k v a b", b="B T HV K", **PLAIN),
    fla_names.fused_mul_recurrent_rwkv7: OF_RWKV | tensors("k v kk a", **PLAIN),
    fla_names.chunk_precond_gated_delta_rule: PRECONDITIONED,
    fla_names.chunk_precond_kda: PRECONDITIONED,
}
CALLS |= {function.__name__: (function, arguments) for function, arguments in FLA.items()}


def right_layers() -> Iterator[tuple[str, tuple[Callable[..., Any], dict[str, Any]]]]:
    for kind in (GatedDeltaNet2, KimiDeltaAttention, GatedDeltaNet, Carve):
        layer = kind(LAYER)
        x = torch.rand(2, 5, 8)
        yield f"{kind.__name__}.forward", (layer.forward, {"x": x, "mask": torch.ones(2, 5)})
        yield f"{kind.__name__}.decode", (layer.decode, {"x": x, "cache": layer.decode(x)[1]})


LAYERS = dict(right_layers())
CALLS |= LAYERS
FREE = dict.fromkeys(CALLS, 3) | {"gated_delta_product": 4, "mamba3_mimo": 4}
"""The axis of v that no other argument has to agree with, in functions whose w is not channel-wise."""

TAKEN = {
    ("lookup", "gpu", "'nosuch'"),  # the safe default
    *((("lookup", name, word)) for name in ("triton", "driver") for word in ("'nosuch'", "''")),
    *(("lookup", name, "None") for name in ("tokens", "heads")),  # the answer for all sizes
    ("carve", "content", "<built-in function max>"),  # the caller's own function
    ("chunk_indices", "cu_seqlens", "on meta"),  # as compilers trace it
    ("decode", "states", "axis 0 longer by 3"),  # a larger pool
    *((kind, "mask", what) for kind in LAYERS for what in ("bool", "int8", "axis 1 longer by 3")),
    *((kind, "x", "axis 1 longer by 3") for kind in LAYERS),
    *((name, "v", f"axis {axis} longer by 3") for name, axis in FREE.items()),
    ("from_fla", "prefix", "''"),
    *((name, "g", "None") for name in ("gated_delta_product", "chunk_gated_delta_product", "carve")),
}
"""(function, argument, what is odd about it) that is no error."""
ALSO = {
    "head_v_dim": ("value_channels",),
    "num_v_heads": ("value_heads",),
    "beta": ("b ",),
    "dt": ("w ",),
    "gpu": ("GPU",),
}
"""Other names of an argument: a rule hands its gates on to the op, which names its own."""


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_argument_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch):
    function, right = CALLS[name]
    function(**right)
    faults = []
    for parameter, what, arguments in bad_arguments(function, right):
        if parameter in ("op", "self") or (name, parameter, what) in TAKEN:
            continue
        try:
            with limited(monkeypatch):
                function(**arguments)
        except BaseException as error:
            wrong = refusal(error, parameter, *right, *ALSO.get(parameter, ()))
        else:
            wrong = "accepted"
        faults += [f"{parameter}, {what}: {wrong}"] if wrong else []
    assert not faults, "\n".join(faults)


HANDS_ON = [
    name
    for name, (function, _) in CALLS.items()
    if any(one.kind == inspect.Parameter.VAR_KEYWORD for one in inspect.signature(function).parameters.values())
]
"""Functions that hand keywords on to another."""


@pytest.mark.parametrize("name", HANDS_ON)
def test_an_unknown_keyword_is_refused_in_the_name_of_the_function_that_was_called(name: str):
    function, right = CALLS[name]
    with pytest.raises(TypeError, match=f"{name} takes no keyword 'no_such_thing'; accepted: ") as error:
        function(**right, no_such_thing=1)
    assert refusal(error.value) is None


@pytest.mark.parametrize("kind", [GatedDeltaNet2, KimiDeltaAttention, GatedDeltaNet])
def test_a_bad_weight_is_refused_by_name(kind: type[Any], monkeypatch: pytest.MonkeyPatch):
    """Each weight of a layer made wrong in its turn: no tensor, another shape, dtype, device or layout."""
    state = kind(LAYER).state_dict()
    from_fla(kind, state)
    faults = []
    for name, right in state.items():
        for what, wrong in [
            *bad_tensors(right),
            ("empty", right[:0]),
            *((repr(x)[:30], x) for x in ANYTHING),
            ("None", None),
        ]:
            try:
                with limited(monkeypatch):
                    from_fla(kind, {**state, name: wrong})
            except BaseException as error:
                fault = refusal(error, "state")
            else:
                fault = "accepted"
            faults += [f"{name}, {what}: {fault}"] if fault else []
    assert not faults, "\n".join(faults)
