"""A call that a compiler traced is served what a call that it did not is served: it looks up when it runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import triton

from deltaproof.kernels import gated_delta_rule
from deltaproof.kernels.ops import dispatch, library
from deltaproof.kernels.ops import traced as traced_calls
from deltaproof.results import Key, TableEntry, forget
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.schema.default import default_config
from deltaproof.results.schema.gpus import Resources, resolve
from deltaproof.results.schema.table import make_table, write_table

SERVED = {"chunk_fwd": "c64,variant=packed", "chunk_train": "c32,output=32x2x1"}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Configurations that ran, on a pretended H100 whose table has an entry for each op."""
    monkeypatch.setattr(dispatch, "_gpu", lambda device: "h100-sxm")
    monkeypatch.setattr(dispatch, "can_look_up", lambda q: not torch.compiler.is_compiling())
    found: list[str] = []
    parse = library.parse_config
    monkeypatch.setattr(library, "parse_config", lambda token: (found.append(token), parse(token))[1])
    write(tmp_path, SERVED)
    monkeypatch.setenv("DELTAPROOF_TABLES", str(tmp_path))
    forget()
    torch.compiler.reset()
    yield found
    forget()


def write(folder: Path, served: dict[str, str]) -> None:
    entries = []
    for op, config in served.items():
        key = Key(op=op, rule="gdn2", dtype="bf16", K=16, V=16, tokens=64, heads=1)
        entries.append(
            TableEntry(
                key=key, config=config, tier="A", kernel=kernel_digest(key, config), gate="device", verdict="cd" * 8,
                measurement="ab" * 8, triton=triton.__version__,
                resources=Resources(shared=40_000, registers=30_000, threads=256),
            )
        )  # fmt: skip
    write_table(make_table(resolve("h100-sxm"), entries), folder / "h100-sxm.json")


def inputs(tokens: int, grad: bool) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(tokens)
    data = [torch.randn(1, tokens, 1, 16, generator=make) for _ in range(6)]
    data[0], data[1] = (F.normalize(x, dim=-1) for x in data[:2])
    data[3:] = [F.logsigmoid(data[3]), data[4].sigmoid(), data[5].sigmoid()]
    return [x if i == 3 else x.bfloat16() for i, x in enumerate(data)] if not grad else [
        (x if i == 3 else x.bfloat16()).requires_grad_() for i, x in enumerate(data)
    ]  # fmt: skip


def run(compiled: Any, variant: str, tokens: int) -> list[torch.Tensor]:
    data = inputs(tokens, variant == "staged")
    o, _ = compiled(*data, variant=variant)
    return [o, *(torch.autograd.grad(o.float().sum(), data) if variant == "staged" else ())]


@pytest.mark.parametrize(("variant", "op"), [("packed", "chunk_fwd"), ("staged", "chunk_train")])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_traced_call_runs_under_the_entry_of_its_gpu(parsed: list[str], variant: str, op: str, dynamic: bool):
    traced = torch.compile(gated_delta_rule, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for tokens in (70, 40):
        got = run(traced, variant, tokens)
        assert set(parsed) == {SERVED[op]}
        parsed.clear()
        for one, other in zip(got, run(gated_delta_rule, variant, tokens), strict=True):
            assert torch.equal(one, other)
        assert set(parsed) == {SERVED[op]}
        parsed.clear()


def test_training_keeps_the_chunk_that_was_traced_and_says_so(
    parsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    write(tmp_path, {"chunk_train": "c16"})
    forget()
    monkeypatch.setenv("DELTAPROOF_LOG", "dispatch")
    dispatch._say.cache_clear()
    traced = torch.compile(gated_delta_rule, backend="aot_eager", fullgraph=True)
    with caplog.at_level(logging.INFO, logger="deltaproof.dispatch"):
        run(traced, "staged", 40)
    assert set(parsed) == {default_config("chunk_train", "bf16", 16)}
    assert "traced with chunks of 32, and c16 is the best" in caplog.text


def test_both_passes_of_training_ask_the_same(parsed: list[str], monkeypatch: pytest.MonkeyPatch):
    asked: list[bool] = []
    choose = dispatch.choose_config
    monkeypatch.setattr(traced_calls, "choose_config", lambda *a, **k: (asked.append(k["states"]), choose(*a, **k))[1])
    traced = torch.compile(gated_delta_rule, backend="aot_eager", fullgraph=True)
    data = inputs(40, grad=True)
    o, state = traced(*data, variant="staged", output_final_state=True)
    assert state is not None
    torch.autograd.grad(o.float().sum() + state.sum(), data)
    assert asked == [True, True]
