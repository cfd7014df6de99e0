"""The cost model against recorded products. No GPU of ours was timed: the sample is of multiprocessors played event by event."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from functools import cache as kept
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from deltaproof.autotune.bench.cost_model import bench_model
from deltaproof.autotune.bench.gemm import GemmConfig, GemmProblem, GemmProgram, compile_programs, work
from deltaproof.autotune.bench.landscape import read_landscape
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.model.cost import depth, milliseconds, occupancy, parameters
from deltaproof.results.schema.strict import TableError
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Cache, Compilation
from deltaproof.verify.process.progress import Progress
from tests.helpers.pipelines import played
from tests.helpers.synthetic import compilation

H100 = gpu("h100")
TILES = [(64, 64, 32), (64, 128, 64), (128, 128, 32), (128, 128, 64), (128, 64, 128)]
CONFIGS = [
    GemmConfig(BM=BM, BN=BN, BK=BK, num_stages=stages, num_warps=8)
    for (BM, BN, BK), stages in product(TILES, (1, 2, 3, 4))
    if stages * BK * (BM + BN) * 2 < 200_000
]
SHAPES = [(256, 256, 4096), (512, 1024, 1024), (1024, 4096, 2048), (2048, 2048, 512), (4096, 1024, 1024)]


def binary(config: GemmConfig) -> Compilation:
    """What such a program needs, roughly."""
    shared = config.num_stages * 2 * config.BK * (config.BM + config.BN)
    registers = 32 + config.BM * config.BN // (32 * config.num_warps)
    return compilation(repr(config), shared=shared, registers=registers, threads=32 * config.num_warps)


def problem_of(M: int, N: int, K: int) -> GemmProblem:
    return GemmProblem(M=M, N=N, K=K, dtype="float16", strides=(K, 1, N, 1))


@kept
def recorded(problem: GemmProblem, config: GemmConfig) -> float:
    """Milliseconds of the fullest multiprocessor, played; products at 80% of the peak, an epilogue of a microsecond."""
    job, needs = work(problem, config), binary(config)
    seconds = played(
        programs=math.ceil(job.programs[0] / H100.sm_count),
        resident=occupancy(needs, H100.arch),
        steps=int(job.steps[0]),
        ahead=config.num_stages - 1,
        latency=0.75e-6,
        busy=30e-9 + max(job.products / (0.8 * H100.bf16_tflops * 1e12), job.shared / 12e12) * H100.sm_count,
    )
    return 1e3 * (seconds + 5e-6)


def rows() -> list[dict[str, object]]:
    """The sample, as it is recorded; one configuration failed, and there is a library's product."""
    found = []
    for shape in SHAPES:
        problem = problem_of(*shape)
        M, N, K = shape
        text = f"{M}|{K}|{N}|float16|float16|{K}|1|{N}|1|True|True|not_float_32"
        for config in CONFIGS:
            name = f"BM={config.BM}_BK={config.BK}_BN={config.BN}_numstages={config.num_stages}_numwarps=8"
            time = math.inf if config == CONFIGS[0] else recorded(problem, config)
            found.append({"set": "made", "gpu": "h100", "problem": text, "config": name, "median_ms": time})
        found.append({**found[-1], "config": "extern_mm", "median_ms": 0.001})
    return found


def text_of(some: list[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(some[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(some)
    return out.getvalue()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("landscape") / "made.csv.gz"
    path.write_bytes(gzip.compress(text_of(rows()).encode()))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """What the sample's programs compile to is known."""
    known = Cache(folder=tmp_path / "compiled")
    for shape, config in product(SHAPES, CONFIGS):
        known.put(GemmProgram.of(problem_of(*shape), config).name(H100.arch.target), binary(config))
    return known


def test_the_model_chooses_well_on_the_sample(sample: Path, cache: Cache):
    (scores,) = bench_model(sample, cache=cache, jobs=1, progress=Progress())["sets"].values()
    assert scores["problems"] == len(SHAPES)
    assert scores["configs"] == len(CONFIGS), "a library's product is not the template's"
    model = scores["model"]
    assert model["first"] >= 0.93
    assert model["worst_tenth"] >= 0.8
    assert model["top3"] >= 0.985
    assert model["rank_correlation"] >= 0.9
    assert 0.7 < model["predicted_over_measured"] < 1.4
    for loss in scores["losses"].values():
        assert loss["real"] < loss["expected"] + 0.05 and loss["within"] > 0.8
    for other in (scores["random"], scores["tpe"], scores["best_fixed"]):
        assert other["worst_tenth"] <= other["first"] <= other["top3"] <= 1
        assert model["evaluations"] <= other["evaluations"]
    assert scores["random"]["first"] < model["first"]


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(300, 1000), stages=st.integers(1, 5), tile=st.sampled_from(TILES))
def test_alone_a_step_takes_what_a_pipeline_that_is_played_takes(steps: int, stages: int, tile: tuple[int, int, int]):
    BM, BN, BK = tile
    config = GemmConfig(BM=BM, BN=BN, BK=BK, num_stages=stages, num_warps=8)
    needs = compilation("any", shared=stages * 2 * BK * (BM + BN) if stages > 1 else 0)
    assume(occupancy(needs, H100.arch))

    def time(steps: int, asked: int) -> float:
        return float(milliseconds(work(problem_of(BM, BN, steps * BK), config), needs, H100, num_stages=asked)[0]) / 1e3

    latency = parameters()["architectures"]["sm_90"]["latency"] * 1e-6
    busy = time(2 * steps, 1) / steps - time(steps, 1) / steps - latency  # nothing is asked for ahead
    closed = time(2 * steps, stages) - time(steps, stages)
    by_event = [
        played(programs=1, resident=1, steps=some, ahead=stages - 1, latency=latency, busy=busy)
        for some in (steps, 2 * steps)
    ]
    assert closed == pytest.approx(by_event[1] - by_event[0], rel=0.02)


def test_no_depth_without_its_buffers():
    job = work(problem_of(128, 128, 4096), CONFIGS[0])
    for stages, buffers in product(range(1, 6), range(6)):
        needs = compilation("any", shared=int(buffers * job.shared))
        assert depth(job, needs, stages) == min(stages, 1 + buffers)
    once = work(problem_of(128, 128, CONFIGS[0].BK), CONFIGS[0])
    assert depth(once, compilation("any", shared=200_000), 5) == 1, "nothing to span"


def test_the_template_compiles_and_is_compiled_once(tmp_path: Path):
    problem, cache = problem_of(4096, 4096, 4096), Cache(folder=tmp_path)
    programs = [
        GemmProgram.of(problem, GemmConfig(BM=32, BN=32, BK=32, num_stages=stages, num_warps=2)) for stages in (1, 3)
    ]
    found = compile_programs(programs, H100.arch, cache, jobs=1, progress=Progress())
    flat, deep = (found[program] for program in programs)
    assert flat.outcome == deep.outcome == "compiled"
    assert flat.shared < deep.shared
    assert "mma" in deep.tensor_core
    assert [cache.get(program.name(H100.arch.target)) for program in programs] == [flat, deep]


def test_the_command_prints_a_table_and_writes_json(sample: Path, cache: Cache, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("deltaproof.verify.compile.compilation.compiled_folder", lambda: cache.folder)
    out = tmp_path / "scores.json"
    result = CliRunner().invoke(app, ["bench-model", "--landscape", str(sample), "-j", "1", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "best fixed" in result.stdout
    assert set(json.loads(out.read_text())["sets"]) == {"made"}


def changed(**fields: object) -> bytes:
    some = rows()[:3]
    return text_of([*some[:2], {**some[2], **fields}]).encode()


GOOD = text_of(rows()[:4])
BAD = {
    "empty": b"",
    "only a header": GOOD.splitlines()[0].encode() + b"\n",
    "other columns": b"a,b\n1,2\n",
    "not text": bytes(range(128, 256)) * 9 + b"\n",
    "half of an archive": gzip.compress(GOOD.encode())[:-20],
    "a damaged archive": gzip.compress(GOOD.encode(), mtime=0)[:40] + b"\xff" * 40,
    "a time that is none": changed(median_ms="soon"),
    "no number": changed(median_ms="nan"),
    "a time below zero": changed(median_ms=-1.0),
    "no such matrix": changed(problem="0|128|128|float16|float16|128|1|128|1"),
    "half a problem": changed(problem="128|128"),
    "no such tile": changed(config="BM=100_BK=32_BN=64_numstages=2_numwarps=4"),
    "no such depth": changed(config="BM=64_BK=32_BN=64_numstages=999_numwarps=4"),
    "one configuration": text_of(rows()[1:2]).encode(),
    "an unknown GPU": text_of([{**row, "gpu": "h1000"} for row in rows()]).encode(),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_landscape_is_one_line_and_exit_2(content: bytes, tmp_path: Path):
    path = tmp_path / "bad.csv.gz"
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["bench-model", "--landscape", str(path), "-j", "1"])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout


@pytest.mark.parametrize(
    "pack", [str.encode, lambda text: gzip.compress(text.encode(), mtime=0)], ids=["plain", "gzip"]
)
def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(pack, tmp_path: Path):
    whole, path = pack(GOOD), tmp_path / "cut.csv"
    path.write_bytes(whole)
    (recording,) = read_landscape(path)
    assert recording.gpu == "h100"
    for end in range(0, len(whole), 7):
        if not whole[:end].endswith(b"\n"):
            path.write_bytes(whole[:end])
            with pytest.raises(TableError):
                read_landscape(path)


def test_times_of_one_problem_are_those_recorded(sample: Path):
    (recording,) = read_landscape(sample)
    problem = problem_of(*SHAPES[0])
    expected = [math.inf, *(recorded(problem, config) for config in CONFIGS[1:])]
    assert np.allclose([recording.times[problem][config] for config in CONFIGS], expected)
