"""The examples run, and their records survive interruption."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from typer.testing import CliRunner

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def mqar():
    spec = spec_from_file_location("mqar", EXAMPLES / "mqar.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["mqar"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mqar"]


def run(mqar, out: Path, *words: str):
    return CliRunner().invoke(mqar.app, ["--steps", "2", "--seeds", "1", "--out", str(out), *words])


def test_mqar_trains_every_mixer_and_continues(mqar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = run(mqar, tmp_path, "--mixer", "linear")
    assert first.exit_code == 0, first.output
    before = json.loads((tmp_path / "mqar.json").read_text())["runs"]
    assert run(mqar, tmp_path).exit_code == 0
    runs = json.loads((tmp_path / "mqar.json").read_text())["runs"]
    assert runs[0] == before[0]  # not trained again, or its seconds would differ
    assert sorted(run["mixer"] for run in runs) == sorted(mqar.MIXERS)
    assert (tmp_path / "mqar.png").stat().st_size > 10_000
    monkeypatch.setattr(mqar, "train", None)  # all is done: nothing may be trained
    assert run(mqar, tmp_path).exit_code == 0


def test_mqar_can_be_learnt(mqar):
    """Two pairs of four keys and values, by linear attention, in seconds."""
    setting = mqar.Setting(keys=4, values=4, pairs=(2,), asked=(2,), channels=32, steps=120)
    assert mqar.train("linear", setting, 0, lambda _: None)["recall"]["2"] > 0.9


def test_mqar_answers_are_in_the_question(mqar):
    import torch

    setting = mqar.Setting()
    tokens, wanted = mqar.sequences(setting, 3, 8, torch.Generator().manual_seed(0))
    for row, answers in zip(tokens.tolist(), wanted.tolist(), strict=True):
        value = dict(zip(row[:16:2], row[1:16:2], strict=True))
        assert [value[key] - setting.keys for key in row[16:]] == answers


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mixer", "lstm"], "'lstm' is unknown; accepted: gdn2, kda"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--steps", "3", "--mixer", "linear"], "has runs of another setting"),
    ],
)
def test_mqar_refuses_bad_input(mqar, tmp_path: Path, words: list[str], says: str):
    run(mqar, tmp_path, "--mixer", "linear")
    result = run(mqar, tmp_path, *words)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_mqar_refuses_a_file_that_is_not_its_own(mqar, tmp_path: Path):
    (tmp_path / "mqar.json").write_text("[]")
    assert run(mqar, tmp_path, "--mixer", "linear").exit_code == 2
    assert run(mqar, tmp_path, "--mixer", "linear", "--fresh").exit_code == 0


def test_mqar_help_has_examples(mqar):
    assert "python examples/mqar.py --mixer gdn2" in CliRunner().invoke(mqar.app, ["--help"]).output
