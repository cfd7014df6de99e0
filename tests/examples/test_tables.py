"""The tables in examples/ are what a run makes, what is exported of them is found, and their pages show it as it is."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.targets.again import in_one_process
from deltaproof.autotune.targets.triton_cache import prove
from deltaproof.autotune.targets.tune import read_target_table
from deltaproof.results.schema.target_table import TargetTable
from deltaproof.specs.gpus import gpu
from tests.helpers.megatron_reader import choices

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOFTMAX, FLA = EXAMPLES / "row-softmax", EXAMPLES / "fla-tables"
A100, H100 = gpu("a100"), gpu("h100")
SOFTMAX_CALLS, FUSED = "row_softmax:calls", "fla.ops.simple_gla:fused_chunk_simple_gla"


def autotune(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.stdout


def export(name: str, target: str, slug: str, tuned: Path) -> list[str]:
    """The texts of the files that are written into a folder of the format's name."""
    autotune("export", "--to", name, "--gpu", slug, "--target", target, "--from", tuned, "--out", name)
    return [path.read_text() for path in sorted(Path(name).rglob("*")) if path.is_file()]


def shown(page: Path) -> list[str]:
    """What a page shows of files."""
    return re.findall(r"```(?:json|python)\n(.*?)```", page.read_text(), re.S)


def read_by_megatron(table: TargetTable, device: Any) -> dict[tuple[str, Any], Any]:
    read = in_one_process(device, choices, (table.target, table.calls, "megatron"))
    return {(kernel, key): config for kernel, key, config in read}


def wanted(table: TargetTable) -> dict[tuple[str, Any], Any]:
    whole = {"maxnreg": None, "ir_override": None}
    return {(entry.kernel, key): {**entry.config, **whole} for entry in table.entries for key in entry.keys}


@pytest.mark.skipif(triton.__version__ != "3.7.1", reason="another Triton makes other programs than the table's")
def test_a_run_makes_the_table_and_its_exports_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(SOFTMAX / "row_softmax.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    told = autotune("--gpu", "a100", "--target", SOFTMAX_CALLS, "--budget", "60s", "--out", "tuned", "--jobs", 1)
    page = (SOFTMAX / "README.md").read_text()
    assert all(line in page for line in told.splitlines() if "known before" not in line), told
    (file,) = (SOFTMAX / "tuned").rglob("*.json")
    assert (tmp_path / file.relative_to(SOFTMAX)).read_text() == file.read_text()

    table = read_target_table(Path("tuned"), A100, SOFTMAX_CALLS)
    texts = [
        text for name in ("triton", "megatron", "t4") for text in export(name, SOFTMAX_CALLS, "a100", Path("tuned"))
    ]
    texts += [(SOFTMAX / "a100_sxm.py").read_text()]
    assert all(any(block.rstrip() in text for text in texts) for block in shown(SOFTMAX / "README.md"))
    export("python", SOFTMAX_CALLS, "a100", Path("tuned"))
    ours, shipped = (runpy.run_path(str(path / "a100_sxm.py")) for path in (Path("python"), SOFTMAX))
    assert ours["CONFIGS"] == shipped["CONFIGS"] and ours["SOURCES"] == shipped["SOURCES"]
    found = prove(table, A100, Path("triton"))
    assert len(found["found"]) == 2 and not found["missing"]
    assert read_by_megatron(table, A100) == wanted(table)


def test_the_softmax_is_one(monkeypatch: pytest.MonkeyPatch):
    kernel = runpy.run_path(str(SOFTMAX / "row_softmax.py"))["row_softmax_kernel"]
    x = torch.randn(3, 100)
    y = torch.full_like(x, torch.nan)
    kernel.fn[(3,)](x, y, 100, 128)
    torch.testing.assert_close(y, x.softmax(1))


def test_what_the_page_shows_of_fla_is_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    texts = [text for name in ("fla", "python", "t4") for text in export(name, FUSED, "h100", FLA / "tuned")]
    assert len(texts) == 3 + 1 + 6
    table = read_target_table(FLA / "tuned", H100, FUSED)
    module = runpy.run_path("python/h100_sxm.py")
    for entry in table.entries:
        assert all(module["lookup"](entry.kernel, key) == entry.config for key in entry.keys)
    read_without_fla = [block for block in shown(FLA / "README.md") if '"arch"' not in block]
    assert len(read_without_fla) == 2
    assert all(any(block.rstrip() in text for text in texts) for block in read_without_fla)
    assert all(json.loads(text)["results"] for text in texts[4:])


def fla_version() -> str:
    return metadata.version("fla-core") if importlib.util.find_spec("fla") else "none"


@pytest.mark.timeout(600)  # a minute of one core
@pytest.mark.skipif(
    (fla_version(), triton.__version__) != ("0.6.0", "3.7.1"), reason="the table is for fla-core 0.6.0 and Triton 3.7.1"
)
def test_what_is_exported_for_fla_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    table = read_target_table(FLA / "tuned", H100, FUSED)
    (text,) = export("megatron", FUSED, "h100", FLA / "tuned")
    assert [block for block in shown(FLA / "README.md") if block.rstrip() in text]
    assert read_by_megatron(table, H100) == wanted(table)
    export("triton", FUSED, "h100", FLA / "tuned")
    found = prove(table, H100, Path("triton"))
    assert len(found["found"]) == 36 and not found["missing"]
