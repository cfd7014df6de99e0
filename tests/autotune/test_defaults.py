"""`autotune defaults`: the safe default is judged as compiled, and what is found is kept by version of Triton."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.autotune.tables import defaults
from deltaproof.autotune.tables.defaults_report import write_defaults
from deltaproof.results.schema.default import default_config
from deltaproof.verify.compile.compilation import Compilation
from deltaproof.verify.compile.diagnostics import judge
from deltaproof.verify.compile.hazards import Toolchain
from deltaproof.verify.compile.run import CompileRun
from deltaproof.verify.compile.tasks import Named

LAUNCH = Named(
    kernel="state_grads_kernel", index=0, program="0" * 64, num_warps=8, num_stages=1, constants={}, traits=(), dots=6,
    grid=(1, 1),
)  # fmt: skip
RIGHT = Compilation(outcome="compiled", seconds=1.0, shared=1024, registers=64, threads=256, code="c0de")
WRONG = replace(RIGHT, misassembled="IADD3.X R12, R12 reads R12, which nothing has written")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for the compiler and the CPU that runs: what they say of chunk_train, and what was asked of them."""
    state: dict[str, Any] = {"binary": RIGHT, "held": True, "ran": []}

    def compile_pieces(pieces, *rest: object, **named: object) -> CompileRun:
        tools = {gpu.arch.name: Toolchain(triton="3.7.1", ptxas="12.8") for gpu in pieces}
        rows = [
            judge(gpu, [(piece, LAUNCH, state["binary"] if piece.subject.op == "chunk_train" else RIGHT)], tools)
            for gpu, several in pieces.items()
            for piece in several
        ]
        return CompileRun(
            diagnostics=list(chain.from_iterable(rows)), tools=tools, compiled=len(rows), cached=0, left=0
        )

    def run_all(questions, jobs: int):
        state["ran"] += [f"{question.family.op} sm_{question.arch}" for question in questions]
        return [defaults.RunAnswer(question=one, held=state["held"], detail="said") for one in questions]

    monkeypatch.setattr(defaults.compiling, "run", compile_pieces)
    monkeypatch.setattr(defaults, "ask_run", run_all)
    return state


def ask(*arguments: str):
    return CliRunner().invoke(app, ["defaults", "--rule", "gdn", *arguments])


def test_every_default_is_compiled_and_the_main_ones_run(compiler: dict[str, Any], tmp_path: Path):
    done = ask("--out", str(tmp_path))
    assert done.exit_code == 0, done.stderr
    (path,) = tmp_path.glob("triton-*.json")
    document = json.loads(path.read_text())
    assert {cell["arch"] for cell in document["cells"]} == {"sm_80", "sm_86", "sm_89", "sm_90"}
    assert {(cell["dtype"], cell["K"]) for cell in document["cells"]} == {
        (dtype, K) for dtype in ("bf16", "fp16", "fp32") for K in (64, 128, 256)
    }
    for cell in document["cells"]:
        assert cell["config"] == default_config(cell["op"], cell["dtype"], cell["K"])
    assert sorted(compiler["ran"]) == sorted(
        f"{op} {arch}" for op in ("chunk_fwd", "chunk_train", "recurrent") for arch in ("sm_80", "sm_90")
    )


def test_wrong_machine_code_and_a_failed_run_end_with_1_and_are_named(compiler: dict[str, Any]):
    compiler["binary"] = WRONG
    done = ask("--dim", "128", "--dtype", "bf16", "--arch", "sm_90")
    assert done.exit_code == 1
    (line,) = done.stderr.strip().splitlines()
    for part in (
        "sm_90",
        "chunk_train gdn bf16",
        "state_grads_kernel",
        "IADD3.X R12",
        default_config("chunk_train", "bf16", 128),
    ):
        assert part in line
    compiler |= {"binary": RIGHT, "held": False}
    done = ask("--dim", "128", "--dtype", "bf16", "--arch", "sm_90")
    assert done.exit_code == 1 and len(done.stderr.strip().splitlines()) == 3


def test_another_run_adds_to_what_is_known_and_versions_stand_side_by_side(compiler: dict[str, Any], tmp_path: Path):
    some = ("--dim", "128", "--dtype", "bf16", "--out", str(tmp_path))
    assert ask(*some, "--arch", "sm_80").exit_code == 0
    compiler["binary"] = WRONG
    assert ask(*some, "--arch", "sm_90").exit_code == 1
    (path,) = tmp_path.glob("triton-*.json")
    document = json.loads(path.read_text())
    assert [(cell["arch"], bool(cell["faults"])) for cell in document["cells"] if cell["op"] == "chunk_train"] == [
        ("sm_80", False), ("sm_90", True),
    ]  # fmt: skip
    write_defaults(tmp_path, {**document, "triton": "3.10.0"})
    page = (tmp_path / "README.md").read_text()
    assert page.index(f"| {document['triton']} |") < page.index("| 3.10.0 |") and "IADD3.X" in page
    compiler["binary"] = RIGHT
    assert ask(*some, "--arch", "sm_90").exit_code == 0
    assert not any(cell["faults"] for cell in json.loads(path.read_text())["cells"]), "the last answer counts"


def test_an_architecture_that_cannot_be_run_is_one_line():
    done = ask("--arch", "sm_100")
    assert done.exit_code == 2 and "sm_90" in done.stderr and len(done.stderr.strip().splitlines()) == 1
