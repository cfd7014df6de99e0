"""What the ops refuse, in one line that names the argument, and what they accept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from deltaproof.kernels.arguments.checks import check
from deltaproof.specs.rule import RULES, Rule

B, T, H, HV, K, V = 2, 5, 2, 4, 8, 6


def call(rule: Rule = RULES["gdn2"], heads: int = HV, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The arguments of a good call."""
    axes = {"none": None, "tied": None, "scalar": (), "channel": (K,)}
    g, b = (None if axes[tie] is None else torch.rand(B, T, heads, *axes[tie]) for tie in (rule.decay, rule.erase))
    w = {"tied": None, "scalar": (HV,), "channel": (HV, V)}[rule.write]
    return {
        "q": torch.randn(B, T, H, K, dtype=dtype),
        "k": torch.randn(B, T, H, K, dtype=dtype),
        "v": torch.randn(B, T, HV, V, dtype=dtype),
        "g": None if g is None else -g,
        "b": b,
        "w": None if w is None else torch.rand(B, T, *w),
        "scale": 1.0,
        "initial_state": torch.zeros(B, HV, K, V),
        "cu_seqlens": None,
        "cu_seqlens_cpu": None,
        "use_gate_in_kernel": False,
        "A_log": None,
        "dt_bias": None,
        "check_values": None,
    }


def packed(*bounds: int) -> dict[str, Any]:
    good = call()
    tensors = {name: good[name][:1] for name in ("q", "k", "v", "g", "b", "w")}
    boundaries = torch.tensor(bounds)
    return good | tensors | {"initial_state": torch.zeros(len(bounds) - 1, HV, K, V), "cu_seqlens": boundaries}


def raw() -> dict[str, Any]:
    return call() | {"use_gate_in_kernel": True, "A_log": torch.zeros(HV), "dt_bias": torch.zeros(HV * K)}


@pytest.mark.parametrize("heads", [H, HV])
@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_reads_ties_and_sizes_from_shapes(rule: Rule, heads: int):
    shape = check(**call(rule, heads))
    assert (shape.decay, shape.erase, shape.write) == (rule.decay, rule.erase, rule.write)
    assert (shape.B, shape.T, shape.H, shape.HV, shape.K, shape.V, shape.N) == (B, T, H, HV, K, V, B)
    assert shape.decay_heads == (HV if rule.decay == "none" else heads)
    assert shape.erase_heads == (HV if rule.erase == "none" else heads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gates_may_be_fp32_or_like_q(dtype: torch.dtype):
    for gate_dtype in (torch.float32, dtype):
        good = call(dtype=dtype)
        check(**good | {name: good[name].to(gate_dtype) for name in ("g", "b", "w")})


def test_accepts_packed_raw_and_empty():
    assert check(**packed(0, 0, 3, 5, 5)).N == 4
    check(**raw())
    good = call()
    assert check(**good | {name: good[name][:, :0] for name in ("q", "k", "v", "g", "b", "w")}).T == 0


def test_nan_and_inf_are_data():
    good = call()
    for value in (math.nan, -math.inf):
        good["g"][0, 1, 0, 2] = value
        check(**good)


def test_reads_no_values_off_the_cpu():
    bad = on_meta(packed(0, 9, 5))
    check(**bad | {"g": bad["g"].abs()})


def test_reads_no_values_where_told_not_to():
    good = packed(0, 9, 5)
    check(**{**good, "g": good["g"].abs(), "check_values": False})


def test_reads_the_cpu_copy_of_boundaries():
    with pytest.raises(ValueError, match="cu_seqlens_cpu runs from 0 to 4"):
        check(**{**on_meta(packed(0, 2, 5)), "cu_seqlens_cpu": torch.tensor([0, 2, 4])})


def on_meta(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same call on a device whose values cannot be read."""
    return {name: x.to("meta") if torch.is_tensor(x) else x for name, x in arguments.items()}


def spoiled(name: str, change: Callable[[Any], Any], base: Callable[[], dict[str, Any]] = call) -> dict[str, Any]:
    good = base()
    return good | {name: change(good[name])}


def positive(x: torch.Tensor) -> torch.Tensor:
    x[0, 2, 1] = 0.5
    return x


BAD: dict[str, tuple[Callable[[], dict[str, Any]], type[Exception], str]] = {
    "list": (lambda: spoiled("q", torch.Tensor.tolist), TypeError, r"q is of type list; accepted: a torch.Tensor"),
    "gate list": (lambda: spoiled("b", torch.Tensor.tolist), TypeError, r"b is of type list; accepted: .* or None"),
    "sparse": (
        lambda: spoiled("v", torch.Tensor.to_sparse),
        TypeError,
        r"v is torch.sparse_coo; accepted: dense tensors",
    ),
    "integers": (lambda: spoiled("q", torch.Tensor.int), TypeError, r"q has dtype int32; accepted: float32, bfloat16"),
    "fp64": (lambda: spoiled("q", torch.Tensor.double), TypeError, r"q has dtype float64"),
    "mixed dtypes": (lambda: spoiled("k", torch.Tensor.bfloat16), TypeError, r"k has dtype bfloat16.*float32"),
    "gate dtype": (lambda: spoiled("w", torch.Tensor.half), TypeError, r"w has dtype float16"),
    "state dtype": (lambda: spoiled("initial_state", torch.Tensor.half), TypeError, r"initial_state has dtype float16"),
    "device": (lambda: spoiled("v", lambda x: x.to("meta")), ValueError, r"v is on meta; accepted: cpu"),
    "rank": (lambda: spoiled("q", lambda x: x[0]), ValueError, r"q has shape \[5, 2, 8\]; accepted: \[B, T, H, K\]"),
    "no heads": (lambda: spoiled("q", lambda x: x[:, :, :0]), ValueError, r"q has shape .*only T may be 0"),
    "wide": (lambda: spoiled("q", lambda x: x.repeat(1, 1, 1, 33)), ValueError, r"q has shape .*K at most 256"),
    "wide v": (lambda: spoiled("v", lambda x: x.repeat(1, 1, 1, 43)), ValueError, r"v has shape .*V at most 256"),
    "k unlike q": (lambda: spoiled("k", lambda x: x[..., 1:]), ValueError, r"k has shape .*the shape of q"),
    "tokens": (lambda: spoiled("v", lambda x: x[:, 1:]), ValueError, r"v has shape .*\[2, 5, HV, V\]"),
    "heads": (lambda: spoiled("v", lambda x: x[:, :, 1:]), ValueError, r"v has 3 heads; accepted: a multiple of the 2"),
    "gate heads": (lambda: spoiled("g", lambda x: x[:, :, 1:]), ValueError, r"g has shape .*heads 2 or 4"),
    "gate rank": (lambda: spoiled("g", lambda x: x[0, 0]), ValueError, r"g has shape \[4, 8\]; accepted: \[2, 5, G\]"),
    "gate channels": (lambda: spoiled("b", lambda x: x[..., 1:]), ValueError, r"b has shape .*\[2, 5, G, 8\]"),
    "w key heads": (lambda: spoiled("w", lambda x: x[:, :, :2]), ValueError, r"w has shape .*\[2, 5, 4, 6\]"),
    "untieable": (lambda: spoiled("w", lambda x: None), ValueError, r"w is None.*b is channel-wise"),
    "positive g": (lambda: spoiled("g", positive), ValueError, r"g is a log decay, but holds 0.5; accepted: at most 0"),
    "scale text": (lambda: spoiled("scale", lambda x: "large"), TypeError, r"scale is of type str"),
    "scale nan": (lambda: spoiled("scale", lambda x: math.nan), ValueError, r"scale is nan"),
    "state shape": (
        lambda: spoiled("initial_state", lambda x: x[1:]),
        ValueError,
        r"initial_state has .*\[2, 4, 8, 6\]",
    ),
    "rows and cu_seqlens": (
        lambda: call() | {"cu_seqlens": torch.tensor([0, T])},
        ValueError,
        r"cu_seqlens is given for a batch of 2 rows",
    ),
    "cu_seqlens list": (
        lambda: spoiled("cu_seqlens", lambda x: x.tolist(), lambda: packed(0, 2, 5)),
        TypeError,
        r"cu_seqlens is of type list",
    ),
    "cu_seqlens float": (
        lambda: spoiled("cu_seqlens", lambda x: x.float(), lambda: packed(0, 2, 5)),
        TypeError,
        r"cu_seqlens is float32; accepted: a dense int32 or int64",
    ),
    "cu_seqlens empty": (lambda: packed(0), ValueError, r"cu_seqlens has shape \[1\]; accepted: \[N \+ 1\]"),
    "cu_seqlens start": (
        lambda: packed(1, 2, 5),
        ValueError,
        r"cu_seqlens runs from 1 to 5; accepted: from 0 to T = 5",
    ),
    "cu_seqlens end": (lambda: packed(0, 2, 4), ValueError, r"cu_seqlens runs from 0 to 4"),
    "cu_seqlens order": (lambda: packed(0, 4, 3, 5), ValueError, r"cu_seqlens decreases from 4 to 3 at sequence 1"),
    "cu_seqlens copy": (
        lambda: packed(0, 2, 5) | {"cu_seqlens_cpu": torch.tensor([0, 3, 5])},
        ValueError,
        r"cu_seqlens_cpu differs from cu_seqlens",
    ),
    "cu_seqlens copy alone": (
        lambda: call() | {"cu_seqlens_cpu": torch.tensor([0, 5])},
        ValueError,
        r"cu_seqlens_cpu is given without cu_seqlens",
    ),
    "raw without A_log": (lambda: spoiled("A_log", lambda x: None, raw), ValueError, r"A_log is None"),
    "raw A_log shape": (lambda: spoiled("A_log", lambda x: x[1:], raw), ValueError, r"A_log has shape \[3\]; .*\[4\]"),
    "raw dt_bias shape": (lambda: spoiled("dt_bias", lambda x: x[:HV], raw), ValueError, r"dt_bias has .*\[32\]"),
    "raw without g": (lambda: spoiled("g", lambda x: None, raw), ValueError, r"use_gate_in_kernel is True, but g"),
    "A_log unused": (
        lambda: call() | {"A_log": torch.zeros(HV)},
        ValueError,
        r"A_log is given, but use_gate_in_kernel",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses_in_one_line(name: str):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=message) as refusal:
        check(**arguments())
    assert "\n" not in str(refusal.value)


def test_fp64_is_for_the_torch_path():
    good = call(dtype=torch.float64)
    check(**good, allow_fp64=True)
    with pytest.raises(TypeError, match="q has dtype float64"):
        check(**good)
