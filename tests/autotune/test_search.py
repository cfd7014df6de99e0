"""The search: its promises on spaces small enough to know."""

from __future__ import annotations

import gzip
import json
import math
import random
from itertools import product
from pathlib import Path

import optuna
import pytest

from deltaproof.autotune.bench_search import METHODS, bench
from deltaproof.autotune.compile_stage import Progress
from deltaproof.autotune.search import Config, Space, search
from deltaproof.results.strict import TableError

PARAMETERS = {
    "block": (16, 32, 64, 128),
    "warps": (1, 2, 4, 8),
    "depth": (1, 2, 3),
    "chunk": (16, 32, 64, 128),
    "one": (1,),
}
EVERY = [config for config in product(*PARAMETERS.values()) if config[0] * config[1] <= 256]
SPACE = Space(parameters=PARAMETERS, feasible=EVERY)


def milliseconds(config: Config) -> float:
    """Smooth in each parameter with one interaction, and with a corner that fails."""
    block, warps, depth, chunk, _ = config
    if block == 128 and chunk == 128:  # pyright: ignore[reportOperatorIssue]
        return math.inf
    far = [abs(math.log2(value / best)) for value, best in ((block, 64), (warps, 4), (depth, 2), (chunk, 64))]  # pyright: ignore[reportOperatorIssue]
    return 1 + sum(far) + far[0] * far[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [20, 40])
def test_no_method_spends_more_than_its_budget_or_tries_what_cannot_be(method: str, budget: int):
    asked: list[Config] = []

    def measure(config: Config) -> float:
        asked.append(config)
        return milliseconds(config)

    trials = METHODS[method](SPACE, measure, budget=budget, seed=1)
    assert len(asked) == len(set(asked)) == len(trials.times) == budget
    assert set(asked) <= set(EVERY)
    assert trials.times[trials.best] == min(map(milliseconds, asked))


def test_a_small_space_is_tried_whole():
    trials = search(SPACE, milliseconds, budget=len(EVERY), seed=0)
    assert set(trials.times) == set(EVERY)


def test_equal_seeds_try_the_same():
    one, other = (search(SPACE, milliseconds, budget=40, seed=3) for _ in range(2))
    assert one.times == other.times


def test_the_best_is_found_with_a_third_of_the_space():
    for seed in range(3):
        trials = search(SPACE, milliseconds, budget=48, seed=seed)
        assert trials.times[trials.best] == 1.0


def test_everything_may_fail():
    assert len(search(SPACE, lambda config: math.inf, budget=25, seed=0).times) == 25


def test_a_study_that_is_there_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deltaproof.autotune.search.START", 2)
    space = Space(parameters={"block": (16, 32, 64), "warps": (2, 4)}, feasible=list(product((16, 32, 64), (2, 4))))
    storage = f"sqlite:///{tmp_path / 'study.sqlite'}"
    for seed in range(2):
        search(space, lambda config: config[0] / config[1], budget=4, seed=seed, storage=storage, name="gdn")  # pyright: ignore[reportOperatorIssue]
    study = optuna.load_study(study_name="gdn", storage=storage)
    assert len(study.trials) >= 6
    assert any(trial.constraints for trial in study.trials)


def write_landscape(path: Path) -> None:
    rng = random.Random(0)
    rows = {}
    for config in EVERY:
        time = milliseconds(config)
        row = dict(zip(PARAMETERS, config, strict=True)) | {
            "time": time + rng.random() / 100 if time < math.inf else "failed"
        }
        rows[",".join(map(str, config))] = row
    names = list(PARAMETERS)
    text = json.dumps({"tune_params_keys": names, "tune_params": PARAMETERS, "cache": rows})
    with gzip.open(path, "wt") as file:
        file.write(text[:-2])


def test_bench_replays_landscapes(tmp_path: Path):
    write_landscape(tmp_path / "made_up.json.gz")
    result = bench(tmp_path, seeds=1, budget=50, jobs=2, progress=Progress())
    assert set(result["landscapes"]) == {"made_up"}
    assert set(result["mean"]) == set(METHODS)
    for method in METHODS:
        row = result["landscapes"]["made_up"][method]
        assert set(row) == {"50", "n"}
        assert 0 < row["50"] <= 1
    assert result["mean"]["deltaproof"]["50"] > 0.9


def test_bench_says_what_is_wrong_with_a_folder(tmp_path: Path):
    with pytest.raises(TableError, match="no landscapes"):
        bench(tmp_path, seeds=1, budget=50, jobs=1, progress=Progress())
    (tmp_path / "bad.json.gz").write_bytes(b"not gzip")
    with pytest.raises(TableError, match="not a recorded landscape"):
        bench(tmp_path, seeds=1, budget=50, jobs=1, progress=Progress())
