"""Our layers with the weights of flash-linear-attention's give its outputs: its own layers and kernels, interpreted."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from deltaproof.kernels.layers import GatedDeltaNet, GatedDeltaNet2, KimiDeltaAttention, from_fla
from deltaproof.results.files.checkout import off_path

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("flash-linear-attention runs on a CPU in Triton's interpreter only", allow_module_level=True)
spec = find_spec("fla")
if spec is None or not any(Path(folder, "layers").is_dir() for folder in spec.submodule_search_locations or ()):
    pytest.skip("flash-linear-attention is not installed: pip install 'deltaproof[peers]'", allow_module_level=True)
with warnings.catch_warnings(), off_path():
    warnings.simplefilter("ignore")
    fla = import_module("fla.layers")

SIZES = {"hidden_size": 24, "head_dim": 16, "num_heads": 2}
CASES = {
    "gdn2": (GatedDeltaNet2, {}, {}),
    "gdn2-grouped": (GatedDeltaNet2, {"num_v_heads": 4, "expand_v": 0.5, "allow_neg_eigval": True}, {}),
    "gdn2-without-convolution": (GatedDeltaNet2, {"use_short_conv": False}, {}),
    "gdn2-bias": (GatedDeltaNet2, {"conv_bias": True, "norm_eps": 1e-2}, {"norm_eps": 1e-2}),
    "kda": (KimiDeltaAttention, {}, {}),
    "kda-grouped": (KimiDeltaAttention, {"num_v_heads": 4, "expand_v": 2, "allow_neg_eigval": True}, {}),
    "kda-bounded": (KimiDeltaAttention, {"safe_gate": True, "lower_bound": -5.0}, {"lower_bound": -5.0}),
    "gdn": (GatedDeltaNet, {"expand_v": 1}, {}),
    "gdn-grouped": (GatedDeltaNet, {"num_v_heads": 4, "expand_v": 1, "allow_neg_eigval": True}, {"num_heads": 2}),
    "gdn-sigmoid": (
        GatedDeltaNet,
        {"expand_v": 1, "output_gate_activation": "sigmoid"},
        {"gate_activation": "sigmoid"},
    ),
    "gdn-without-gate": (GatedDeltaNet, {"expand_v": 1, "use_gate": False}, {}),
}


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch):
    """Without a GPU nothing can be timed: the first of its configurations serves."""
    monkeypatch.setattr("triton.runtime.autotuner.Autotuner._bench", lambda *_, config, **__: [1.0, 1.0, 1.0])


@pytest.mark.parametrize("case", CASES)
def test_equal_weights_give_equal_outputs(case: str):
    """Without padding, and with padding on the left."""
    kind, theirs_only, options = CASES[case]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(fla, kind.__name__)(**SIZES, **theirs_only).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    negative = theirs_only.get("allow_neg_eigval", False)
    ours = from_fla(kind, theirs.state_dict(), negative_eigenvalues=negative, **options)
    x = torch.randn(2, 21, 24)
    mask = torch.ones(2, 21, dtype=torch.int64)
    mask[1, :6] = 0
    with torch.no_grad():
        for given in (None, mask):
            wanted = theirs(x, attention_mask=given)[0]
            found = ours(x, mask=given)
            assert (found - wanted).norm() / wanted.norm() < 1e-6, "with padding" if given is not None else "without"


def test_a_layer_is_found_in_a_model():
    torch.manual_seed(0)
    theirs = fla.GatedDeltaNet2(**SIZES)
    model = {f"model.layers.3.attn.{name}": x for name, x in theirs.state_dict().items()} | {
        "model.norm.weight": torch.ones(24)
    }
    ours = from_fla(GatedDeltaNet2, model, prefix="model.layers.3.attn.")
    assert ours.config.gate_activation == "sigmoid"
    assert all(torch.equal(x, theirs.state_dict()[name]) for name, x in ours.state_dict().items())


def test_bf16_weights_keep_an_fp32_decay():
    theirs = fla.KimiDeltaAttention(**SIZES).bfloat16()
    state = theirs.state_dict() | {name: theirs.state_dict()[name].float() for name in ("A_log", "dt_bias")}
    ours = from_fla(KimiDeltaAttention, state)
    assert ours.q_proj.weight.dtype == torch.bfloat16
    assert ours.A_log.dtype == ours.dt_bias.dtype == torch.float32
