"""Which configuration a call gets: the tuned one of its GPU, else the safe default. The GPU is pretended."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton

from deltaproof.kernels.arguments.checks import CallShape
from deltaproof.kernels.ops import dispatch
from deltaproof.results import Key, TableEntry, forget
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.schema.default import default_config
from deltaproof.results.schema.gpus import Resources, resolve
from deltaproof.results.schema.table import make_table, write_table

SHAPE = CallShape(
    decay="channel", erase="channel", write="channel", B=1, T=8192, H=16, HV=16, K=128, V=128, N=1,
    decay_heads=16, erase_heads=16,
)  # fmt: skip
Q: Any = SimpleNamespace(is_cuda=True, device="cuda:0", dtype=torch.bfloat16)


OPTIONS = dict.fromkeys(("packed", "states", "l2norm", "gate"), False)
GPU_OF = dispatch._gpu.__wrapped__
"""What a device is, asked anew each time; in these tests it is pretended."""


def choose(shape: CallShape = SHAPE, variant: str | None = None) -> str:
    return dispatch.choose_config("chunk_fwd", shape, Q, variant=variant, **OPTIONS)


@pytest.fixture(autouse=True)
def on_an_h100(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A pretended H100, whose table holds one entry, timed there."""
    monkeypatch.setattr(dispatch, "_gpu", lambda device: "h100-sxm")
    key = Key(op="chunk_fwd", rule="gdn2", dtype="bf16", K=128, V=128, tokens=8192, heads=16)
    entry = TableEntry(
        key=key,
        config="c32",
        tier="A",
        kernel=kernel_digest(key, "c32"),
        gate="device",
        verdict="cd" * 8,
        measurement="ab" * 8,
        triton=triton.__version__,
        resources=Resources(shared=40_000, registers=30_000, threads=256),
    )
    write_table(make_table(resolve("h100-sxm"), [entry]), tmp_path / "h100-sxm.json")
    monkeypatch.setenv("DELTAPROOF_TABLES", str(tmp_path))
    forget()
    dispatch._say.cache_clear()
    yield
    forget()


def test_a_call_is_served_the_entry_of_its_gpu():
    assert choose() == "c32"


@pytest.mark.parametrize(("name", "slug"), [("NVIDIA H200", "h200-sxm"), ("NVIDIA H200 NVL", "h200-nvl")])
def test_the_name_of_a_device_tells_equal_ones_apart(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, slug: str
):
    facts = SimpleNamespace(name=name, major=9, minor=0, multi_processor_count=132, total_memory=int(139.8 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(dispatch, "_gpu", GPU_OF)
    monkeypatch.setenv("DELTAPROOF_LOG", "dispatch")
    with caplog.at_level(logging.INFO, logger="deltaproof.dispatch"):
        choose()
    assert f" on {slug}: " in caplog.text


def test_a_miss_is_served_the_default_and_said_once(caplog: pytest.LogCaptureFixture):
    linear = CallShape(
        decay="none", erase="none", write="tied", B=1, T=64, H=1, HV=1, K=32, V=32, N=1, decay_heads=1, erase_heads=1
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="deltaproof.dispatch"):
        assert choose(linear) == choose(linear) == default_config("chunk_fwd", "bf16", 32)
    assert len(caplog.records) == 1
    assert "chunk_fwd linear on h100-sxm" in caplog.text


def test_each_choice_is_explained_when_asked_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setenv("DELTAPROOF_LOG", "dispatch")
    with caplog.at_level(logging.INFO, logger="deltaproof.dispatch"):
        choose()
    assert "chunk_fwd gdn2 on h100-sxm: c32 (tier A, gate device; exact" in caplog.text


def test_ties_without_a_name_and_cpus_get_the_default():
    assert choose(replace(SHAPE, write="scalar")) == default_config("chunk_fwd", "bf16", 128)
    for dtype, K, default in ((torch.bfloat16, 256, "c32"), (torch.float32, 128, "c64"), (torch.float32, 192, "c32")):
        shape, q = replace(SHAPE, K=K), torch.zeros(1, dtype=dtype)
        assert dispatch.choose_config("chunk_fwd", shape, q, variant=None, **OPTIONS) == default


def test_what_was_tuned_for_another_variant_is_not_served():
    assert choose(variant="split") == "c32"
    assert choose(variant="fused") == "c32"
