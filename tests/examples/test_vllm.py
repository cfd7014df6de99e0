"""vLLM's own loader, which is Triton's, finds a table of ours for its gated delta rule."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import pytest

from deltaproof.autotune.targets.triton_cache import prove, write
from deltaproof.autotune.targets.tune import as_config, recorded
from deltaproof.results.schema.target_table import TargetEntry, TargetTable
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile import fake_device
from deltaproof.verify.compile.fake_device import facts
from deltaproof.verify.process.pool import Workers
from deltaproof.verify.targets.calls import TargetCall

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "vllm-tables"
H100 = gpu("h100")
CALL = TargetCall(target="vllm_calls:gdn_prefill", rule="gdn", size=128)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_what_is_exported_is_found_and_nothing_is_benchmarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first configuration that each kernel offers stands for the one that would be chosen."""
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with Workers(1, partial(fake_device.install, facts(H100))) as workers:
        ((_, found),) = workers.run(recorded, [(CALL, H100.arch.name)], 600)
    assert isinstance(found, tuple), found
    tasks, keys, sources = found
    entries = tuple(
        TargetEntry(
            kernel=kernel, source=sources[kernel], keys=tuple(some), gate="none", detail="", offered=(),
            config=as_config(next(task.choice for task in tasks if (task.kernel, task.order) == (kernel, order))),
        )
        for kernel, order, some in keys
    )  # fmt: skip
    assert {"chunk_gated_delta_rule_fwd_kernel_h_blockdim64", "chunk_fwd_kernel_o"} <= {one.kernel for one in entries}
    table = TargetTable(
        target=CALL.target, package="", gpu=H100.slug, triton="3.7.1", calls=(CALL.words,), entries=entries
    )
    assert not prove(table, H100, tmp_path)["found"]
    write(table, H100, tmp_path)
    answer = prove(table, H100, tmp_path)
    assert answer["found"] and not answer["missing"]
