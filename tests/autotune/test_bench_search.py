"""The bench of the search: what it reads, how it counts, and a bar for ours on a landscape of our own making."""

from __future__ import annotations

import gzip
import json
import math
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deltaproof.autotune.bench.choice import choices
from deltaproof.autotune.bench.contestants import contestants
from deltaproof.autotune.bench.optuna_gp import optuna_gp
from deltaproof.autotune.bench.searches import OURS, Runs, bench, judged, summary
from deltaproof.autotune.bench.spaces import Recorded, read_spaces
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.search.study import Space
from deltaproof.results.schema.strict import TableError
from deltaproof.verify.process.progress import Progress

PARAMETERS = {
    "block": (16, 32, 64, 128, 256), "warps": (1, 2, 4, 8), "depth": (1, 2, 3, 4), "chunk": (16, 32, 64, 128),
    "order": ("row", "column", "swizzled"), "unroll": (1, 2, 4),
}  # fmt: skip
EVERY = [
    config for config in product(*PARAMETERS.values()) if config[0] * config[1] <= 512 and config[3] <= 4 * config[0]
]


def milliseconds(config: tuple) -> float:
    """Steep towards one corner of a few, with a region that fails: no search may live on smoothness alone."""
    block, warps, depth, chunk, order, unroll = config
    if block == 256 and chunk == 128:
        return math.inf
    far = [
        abs(math.log2(value / best)) for value, best in ((block, 64), (warps, 4), (depth, 3), (chunk, 64), (unroll, 2))
    ]
    wrong = {"row": 0.6, "column": 0.8, "swizzled": 0.0 if depth > 1 else 1.5}[order]
    return 1 + 0.5 * sum(far) + far[0] * far[1] + wrong + random.Random(repr(config)).random() / 20


def cache() -> dict:
    rows = {}
    for config in EVERY:
        time = milliseconds(config)
        rows[",".join(map(str, config))] = dict(zip(PARAMETERS, config, strict=True)) | {
            "time": time if time < math.inf else "CompilationFailedConfig"
        }
    return {"tune_params_keys": list(PARAMETERS), "tune_params": PARAMETERS, "cache": rows}


def t4() -> dict:
    rows = []
    for config in EVERY:
        time = milliseconds(config)
        held = time < math.inf
        rows.append({
            "configuration": dict(zip(PARAMETERS, config, strict=True)), "objectives": ["time"],
            "invalidity": "correct" if held else "runtime",
            "measurements": [{"name": "time", "value": time if held else "", "unit": "ms"}],
        })  # fmt: skip
    return {"schema_version": "1.0.0", "results": rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("landscapes")
    with gzip.open(path / "made_up.json.gz", "wt") as file:
        file.write(json.dumps(cache())[:-2])  # a recording that was not closed
    return path


def test_ours_finds_the_corner_and_leads_a_random_search(folder: Path):
    result = bench(folder, seeds=3, first=5000, budget=50, jobs=1, progress=Progress(), methods=[OURS, "random"])
    ours, chance = result["mean"][OURS], result["mean"]["random"]
    assert ours["50"] >= 0.85
    assert ours["50"] > chance["50"]
    ahead, low, high = result["ahead"]["random"]["50"]
    assert low <= ahead <= high
    assert ahead == pytest.approx(ours["50"] - chance["50"], abs=2e-4)


@pytest.mark.parametrize("content", [cache, t4])
def test_both_formats_hold_what_was_recorded(content, tmp_path: Path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content()))
    (recorded,) = read_spaces(path).values()
    assert recorded.times == {config: milliseconds(config) for config in EVERY}
    assert set(recorded.space.feasible) == set(EVERY)
    assert {name: set(values) for name, values in recorded.space.parameters.items()} == {
        name: set(values) for name, values in PARAMETERS.items()
    }


@pytest.mark.parametrize("name", contestants())
def test_every_contestant_that_can_run_sends_each_configuration_once(name: str, folder: Path):
    (recorded,) = read_spaces(folder / "made_up.json.gz").values()
    tried = contestants()[name](recorded, 60, 3)
    assert len(tried) == len(set(tried)) <= 60
    assert set(tried) <= set(EVERY)
    assert tried == contestants()[name](recorded, 60, 3), "and the same under the same seed"


def test_failures_count_and_the_best_so_far_stands():
    scores, near = judged([math.inf, 2.0, 1.25, 1.0, 9.0], 1.0, 50)
    assert scores == [1.0, 1.0]
    assert near == 4
    assert judged([math.inf] * 30, 1.0, 50) == ([0.0, 0.0], 51)


def test_an_interval_holds_no_difference_where_there_is_none_and_names_who_is_worse():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.5, 0.9, (30, 1))
    runs = {
        "even": {OURS: scores, "other": rng.permutation(scores)},
        "worse": {OURS: scores, "other": scores + 0.05},
    }
    made = {
        name: {method: Runs(scores=some, evaluations=np.ones(30)) for method, some in by_method.items()}
        for name, by_method in runs.items()
    }
    found = summary(made, (25,))
    assert found["behind"]["other"]["25"] == ["worse"]
    mean, low, high = found["ahead"]["other"]["25"]
    assert low <= mean <= high < 0.05


def damaged() -> dict[str, bytes]:
    good = cache()
    row = next(iter(good["cache"]))
    return {
        "empty": b"",
        "no JSON": b"{",
        "a list": b"[]",
        "no names": json.dumps({**good, "tune_params_keys": None}).encode(),
        "a parameter is missing": json.dumps({**good, "tune_params": {}}).encode(),
        "nothing ran": json.dumps({**good, "cache": {row: {**good["cache"][row], "time": "failed"}}}).encode(),
        "a time below zero": json.dumps({**good, "cache": {row: {**good["cache"][row], "time": -1}}}).encode(),
        "a value that is not listed": json.dumps({**good, "cache": {row: {**good["cache"][row], "block": 7}}}).encode(),
        "no results": json.dumps({"results": []}).encode(),
        "half a table": b"set,gpu,problem,config,median_ms\nx",
    }


@pytest.mark.parametrize("content", damaged().values(), ids=damaged().keys())
@pytest.mark.parametrize("name", ["bad.json", "bad.json.gz", "bad.csv"])
def test_what_is_no_landscape_is_one_line_and_exit_2(content: bytes, name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    result = CliRunner().invoke(app, ["bench-search", "--landscapes", str(tmp_path), "-j", "1"])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout


def test_a_folder_without_landscapes_and_an_unknown_method_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(TableError, match="no landscapes"):
        bench(tmp_path, seeds=1, budget=50, jobs=1, progress=Progress())
    with pytest.raises(TableError, match="cannot run here; accepted: random"):
        bench(folder, seeds=1, budget=50, jobs=1, progress=Progress(), methods=["hope"])


def test_the_command_writes_json_and_a_plot(folder: Path, tmp_path: Path):
    words = ["--landscapes", str(folder), "-j", "1", "--seeds", "1", "--budget", "25", "--method", "random"]
    out, plot = tmp_path / "scores.json", tmp_path / "scores.svg"
    result = CliRunner().invoke(app, ["bench-search", *words, "--json", str(out), "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert set(json.loads(out.read_text())["landscapes"]) == {"made_up"}
    assert plot.read_text().startswith("<?xml")


def test_a_killed_bench_goes_on_with_the_runs_that_it_kept(folder: Path, tmp_path: Path):
    kept = tmp_path / "runs.jsonl"

    def scores(seeds: int) -> dict:
        return bench(
            folder, seeds=seeds, first=0, budget=25, jobs=1, progress=Progress(), methods=["random"], kept=kept
        )

    whole, text = scores(3), kept.read_text()
    assert len(text.splitlines()) == 3
    kept.write_text(text[:-5])
    assert scores(3) == whole
    assert sorted(kept.read_text().splitlines()) == sorted(text.splitlines())
    kept.write_text("".join(text.splitlines(keepends=True)[:2]) + "no run\n")
    with pytest.raises(TableError, match="not the runs of an earlier call"):
        scores(3)


def test_optunas_gaussian_process_takes_words_and_switches_for_what_they_are():
    """Words have no order, and a parameter with one value is none; places of numbers follow the numbers, however listed."""
    parameters = {"z": (8, 2, 4, 16), "layout": ("row", "column", "tiled"), "fixed": (1,), "async": (False, True)}
    every = tuple(product(*parameters.values()))
    times = {one: 1 + abs(math.log2(one[0]) - 2) + (one[1] != "tiled") + 0.2 * one[3] for one in every}
    recorded = Recorded(space=Space(parameters=parameters, feasible=every), times=times)
    tried = optuna_gp(recorded, 18, 0)
    assert len(set(tried)) == 18
    assert times[min(tried, key=times.__getitem__)] == 1.0
    assert set(optuna_gp(recorded, 100, 0)) == set(every)


def with_repeats(noise: float) -> dict:
    """The same landscape, each time recorded 16 times, by a normal distribution that wide."""
    content = cache()
    chance = random.Random(0)
    for row in content["cache"].values():
        if isinstance(row["time"], float):
            row["times"] = [row["time"] * chance.gauss(1, noise) for _ in range(16)]
    return content


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_finals_lose_less_than_half_a_percent_whatever_the_noise(tmp_path: Path, noise: float):
    path = tmp_path / "noisy.json"
    path.write_text(json.dumps(with_repeats(noise)))
    (losses,) = choices(path, range(4)).values()
    assert losses["finals"]["mean"] < 0.005
    if noise:
        assert losses["finals"]["mean"] < losses["one sample"]["mean"]


def test_of_a_recording_without_repeats_no_choice_is_judged(folder: Path):
    assert choices(folder / "made_up.json.gz", range(2)) == {}
