"""FLA's own kernels: what is written for them is what FLA itself reads, in its strict mode, and it benchmarks nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune.binary import Compilation
from deltaproof.autotune.cache import Cache
from deltaproof.autotune.cli import app
from deltaproof.autotune.fla import pretend, target, work
from deltaproof.autotune.fla.calls import Call, Choice, calls
from deltaproof.autotune.pool import Workers
from deltaproof.autotune.tune import Hooks
from deltaproof.results.strict import TableError
from deltaproof.specs.gpus import gpu

H100 = gpu("h100")
CALL = Call(rule="gdn", dtype="bf16", size=64)


def task(place: int, warps: int, *, kernel: str = "one", programs: int = 1000) -> work.Task:
    choice = Choice(kwargs=(("BK", 32 * (1 + place % 2)),), num_warps=warps, num_stages=2, num_ctas=1)
    return work.Task(
        call=CALL, kernel=kernel, order=0, place=place, choice=choice, name=f"{kernel} {place}", programs=programs
    )


def binary(code: str, *, registers: int = 64, stack: int = 0, shared: int = 1024, warps: int = 4) -> Compilation:
    return Compilation(
        outcome="compiled", seconds=0.1, registers=registers, stack=stack, shared=shared, threads=32 * warps,
        tensor_core={"wgmma" if warps >= 4 else "mma": 1}, code=code * 16,
    )  # fmt: skip


def choose(found: dict[str, Compilation], tasks: list[work.Task], slug: str = "h100") -> target.Outcome:
    keys = {(CALL, one.kernel, 0): [(16, "torch.bfloat16"), (8, "torch.bfloat16")] for one in tasks}
    return target._choose(gpu(slug), tasks, keys, found, Path("unused"))


def test_what_does_not_fit_spills_or_repeats_another_is_not_chosen():
    tasks = [task(0, 4), task(1, 4), task(2, 4), task(3, 2)]
    found = {"one 0": binary("a", shared=10**6), "one 1": binary("b", stack=4096), "one 2": binary("c"),
             "one 3": binary("c", warps=2)}  # fmt: skip
    outcome = choose(found, tasks)
    assert {entry.num_warps for entry in outcome.entries} == {4}
    assert {entry.autotune_key[0] for entry in outcome.entries} == {8, 16}, "under the keys of its siblings too"
    assert outcome.rejected == {"resources": 1, "duplicate": 1, "spill": 1}


def test_fast_tensor_cores_win_and_a_budget_leaves_kernels_without():
    outcome = choose({"one 0": binary("a", warps=2), "one 1": binary("b")}, [task(0, 2), task(1, 4)])
    assert {entry.num_warps for entry in outcome.entries} == {4}
    short = choose({"one 0": binary("a")}, [task(0, 4), task(0, 4, kernel="other")])
    assert {entry.kernel for entry in short.entries} == {"one"}
    assert (short.left, len(short.failed)) == (1, 1)


def test_what_is_known_to_be_bad_is_not_chosen():
    kernel = "chunk_gdn2_bwd_kernel_wy_dqkg_fused"
    tasks = [task(0, 4, kernel=kernel), task(1, 4, kernel=kernel)]
    found = {one.name: binary(code) for one, code in zip(tasks, "ab", strict=True)}
    outcome = choose(found, tasks, "b200")
    assert outcome.rejected["known bad"] == 1
    assert {entry.kwargs["BK"] for entry in outcome.entries} == {64}


def test_export_says_what_to_run_first_and_refuses_what_no_run_wrote(tmp_path: Path):
    result = CliRunner().invoke(
        app, ["export", "--to", "fla", "--gpu", "H100", "--out", str(tmp_path / "d"), "--from", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "--target fla" in result.stderr
    (tmp_path / "fla").mkdir()
    path = tmp_path / "fla" / "h100-sxm.json"
    good = {"schema": 1, "gpu": "h100-sxm", "triton": "3.7.1", "entries": []}
    row = {"kernel": "../../evil", "key": [1], "kwargs": {}, "num_warps": 1, "num_stages": 1, "num_ctas": 1}
    for damaged in ("", "[]", "{}", json.dumps(good | {"schema": 2}), json.dumps(good | {"entries": [row]}),
                    json.dumps(good | {"entries": [row | {"kernel": "k", "kwargs": {"BK": "x"}}]})):  # fmt: skip
        path.write_text(damaged)
        with pytest.raises(TableError) as error:
            target.export(tmp_path, H100)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(pretend.where() is not None, reason="flash-linear-attention is installed")
def test_without_fla_it_is_one_line():
    result = CliRunner().invoke(app, ["--gpu", "H100", "--target", "fla"])
    assert result.exit_code == 2
    assert "deltaproof[peers]" in result.stderr


needs_fla = pytest.mark.skipif(
    pretend.where() is None, reason="flash-linear-attention is not installed; it comes with deltaproof[peers]"
)


@needs_fla
def test_fla_itself_finds_every_kernel_in_strict_mode_and_benchmarks_none(tmp_path: Path):
    """With compilations that are made up: what is under test is that keys, files and configurations are what FLA looks for."""

    outcome = target.tune_fla(
        H100, ["gdn"], ["bf16"], [64], jobs=1, out=tmp_path, cache=prepared(tmp_path / "cache"), budget=0.0, hooks=Hooks()
    )  # fmt: skip
    assert not outcome.failed
    for name, text in target.export(tmp_path, H100).items():
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / name).write_text(text)
    found = target.prove(H100, tmp_path / "configs", ["gdn"], ["bf16"], [64])
    assert found["found"]
    assert not found["missing"]
    victim = next((tmp_path / "configs").glob("*kkt_solve*"))
    victim.unlink()
    assert target.prove(H100, tmp_path / "configs", ["gdn"], ["bf16"], [64])["missing"]


def prepared(folder: Path) -> Path:
    """A cache that knows every compilation, so that none is run."""
    some = calls(["gdn"], ["bf16"], [64])
    start = partial(pretend.become, target.facts(H100), "", target._site())
    with Workers(1, start) as workers:
        for _, result in workers.run(work.tasks, [(call, H100.arch.name) for call in some], 300):
            assert not isinstance(result, str), result
            for one in result[0]:
                made = Compilation(outcome="compiled", seconds=0.0, registers=64, threads=128, code=one.name[:32])
                Cache(folder=folder).put(one.name, made)
    return folder
