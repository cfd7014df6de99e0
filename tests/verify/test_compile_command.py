"""`verify compile`: what is compiled, what is said of it, and the command from end to end."""

from __future__ import annotations

import ast
import io
import json
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from rich.console import Console
from typer.testing import CliRunner

from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.specs.gpus import gpu
from deltaproof.specs.rule import RULES
from deltaproof.verify.cli.app import app
from deltaproof.verify.cli.commands import compile as command
from deltaproof.verify.compile import compilation, traits
from deltaproof.verify.compile.compilation import Cache, Compilation
from deltaproof.verify.compile.diagnostics import Diagnostic, judge
from deltaproof.verify.compile.hazards import Pattern, Toolchain, hazards
from deltaproof.verify.compile.launches import launches_of
from deltaproof.verify.compile.plan import (
    DIMS,
    DTYPES,
    Piece,
    Subject,
    default_pieces,
    kernel_names,
    selectable_pieces,
    subjects,
    table_pieces,
)
from deltaproof.verify.compile.programs import compile_each
from deltaproof.verify.compile.report import print_run
from deltaproof.verify.compile.run import CompileRun
from deltaproof.verify.compile.tasks import Named, compile_one
from deltaproof.verify.process.pool import Failure

H100, A100, MI300X = gpu("H100"), gpu("A100"), gpu("MI300X")
SUBJECT = Subject(kernel="chunk_fwd/split", rule="gdn", dtype="bf16", K=64, V=64)
DEFAULT = Piece(subject=SUBJECT, config=LaunchConfig().token)
TUNED = replace(DEFAULT, config="c64,scores=32x2x1", why="table")
TOOLS = {gpu.arch.name: Toolchain(triton="3.7.1", ptxas="12.8") for gpu in (H100, A100)}
LAUNCH = Named(
    kernel="scores_kernel",
    index=0,
    program="0" * 64,
    num_warps=8,
    num_stages=1,
    constants={"C": 64, "BK": 32},
    traits=(),
    dots=6,
    grid=(1000, 64),
)
BINARY = Compilation(
    outcome="compiled",
    seconds=1.0,
    shared=28672,
    registers=128,
    stack=0,
    threads=256,
    tensor_core={"wgmma": 8},
    code="c0de" * 4,
)


def found(launch: Named = LAUNCH, binary: Compilation = BINARY, piece: Piece = DEFAULT) -> Diagnostic:
    """The diagnostic of one launch beside that of the default."""
    return judge(H100, [(DEFAULT, LAUNCH, BINARY), (piece, launch, binary)], TOOLS)[1]


def test_what_fits_has_no_problems():
    assert not found().problems
    assert not found().warnings


@pytest.mark.parametrize(
    ("launch", "binary", "says"),
    [
        (LAUNCH, replace(BINARY, shared=232449), "232449 bytes of shared memory"),
        (replace(LAUNCH, num_warps=16), replace(BINARY, registers=255), "131072 registers"),
        (replace(LAUNCH, num_warps=64), BINARY, "2048 threads"),
        (replace(LAUNCH, grid=(10, 65536)), BINARY, "65536 programs along axis 1"),
        (replace(LAUNCH, grid=(2**31,)), BINARY, "along axis 0"),
        (LAUNCH, Compilation(outcome="compile", seconds=1.0, detail="no such layout"), "refused: no such layout"),
        (LAUNCH, Compilation(outcome="crash", seconds=0.0, detail="died"), "crash"),
    ],
)
def test_what_cannot_be_launched_is_a_problem(launch: Named, binary: Compilation, says: str):
    assert any(says in problem for problem in found(launch, binary).problems)


def test_wrong_machine_code_fails_a_launch_that_fits_and_is_told_in_one_line():
    wrong = (
        "IADD3.X R12, R12, -0x7fffffe0, RZ, P0, !PT reads R12 at 0x280 of the machine code, which nothing has written"
    )
    diagnostic = found(binary=replace(BINARY, misassembled=wrong))
    assert diagnostic.failed and not diagnostic.problems
    assert not found().failed
    told = io.StringIO()
    print_run(
        Console(file=told, width=200),
        CompileRun(diagnostics=[diagnostic], tools=TOOLS, compiled=1, cached=0, left=0),
        seconds=1.0,
    )
    (line,) = (line for line in told.getvalue().splitlines() if wrong in line)
    assert all(part in line for part in ("sm_90", str(DEFAULT), LAUNCH.kernel))
    document = diagnostic.to_json()
    assert document["misassembled"] == wrong
    assert Compilation.from_json(diagnostic.binary.to_json()) == diagnostic.binary


def test_losing_the_instructions_that_the_default_has_is_warned_of():
    slow = replace(BINARY, tensor_core={"mma": 16})
    (warning,) = found(replace(LAUNCH, num_warps=2), slow, TUNED).warnings
    assert "2 warps" in warning
    assert "mma" in warning
    assert "wgmma" in warning
    assert found(LAUNCH, replace(BINARY, tensor_core={}), TUNED).warnings
    assert not judge(H100, [(DEFAULT, LAUNCH, slow), (TUNED, LAUNCH, slow)], TOOLS)[1].warnings


def test_spilling_beside_free_registers_is_warned_of():
    (warning,) = found(LAUNCH, replace(BINARY, registers=32, stack=6200)).warnings
    assert "6200 bytes" in warning
    assert "32 of the 255" in warning
    assert not found(LAUNCH, replace(BINARY, registers=255, stack=6200)).warnings
    assert not found(LAUNCH, replace(BINARY, registers=32, stack=8)).warnings
    assert not found(replace(LAUNCH, num_warps=32), replace(BINARY, registers=64, stack=6200)).warnings


def test_every_known_hazard_has_sources_and_can_be_met():
    names = [hazard.id for hazard in hazards()]
    assert len(set(names)) == len(names) >= 10
    for hazard in hazards():
        assert all(source.count("/") == 1 and source.partition("#")[2].isdecimal() for source in hazard.source)
        known = {*traits.__doc__.split()} if traits.__doc__ else set()
        assert hazard.traits <= known
        pattern = Pattern(
            arch=hazard.arch[0],
            num_warps=(hazard.num_warps or (4,))[0],
            num_stages=(hazard.num_stages or (2,))[0],
            family=hazard.family,
            traits=hazard.traits,
            dots=hazard.least_dots,
            constants={**hazard.constants, **hazard.at_most},
        )
        tools = [Toolchain(triton=version, ptxas="12.8") for version in ("3.4.0", "3.6.0", "3.7.1+git1", "3.8.0")]
        assert any(hazard.meets(pattern, version) for version in tools)
        assert not any(hazard.meets(replace(pattern, arch="sm_75"), version) for version in tools)
        for name in ("traits", "least_dots", "family", "num_warps", "constants", "at_most"):
            if getattr(hazard, name):
                other = {
                    "traits": {"traits": frozenset()},
                    "least_dots": {"dots": 0},
                    "family": {"family": "none"},
                    "num_warps": {"num_warps": 32},
                    "constants": {"constants": {}},
                    "at_most": {"constants": {**hazard.constants, **dict.fromkeys(hazard.at_most, 2**20)}},
                }[name]
                assert not any(hazard.meets(replace(pattern, **other), version) for version in tools), name


def test_hazards_end_with_the_version_that_fixed_them():
    (hazard,) = (hazard for hazard in hazards() if hazard.id == "hopper-transposed-product")
    assert hazard.triton == SpecifierSet(">=3.4,<3.7.1")
    binary = replace(BINARY, traits=("register_wgmma",))
    launch = replace(LAUNCH, traits=("transposed_product",))
    assert [met.id for met in found(launch, binary).hazards] == ["hopper-register-operands"]
    old = {"sm_90": Toolchain(triton="3.6.0", ptxas="13.3")}
    assert [met.id for met in judge(H100, [(DEFAULT, launch, binary)], old)[0].hazards] == ["hopper-transposed-product"]


@dataclass
class Jitted:
    """What `source_traits` needs of a kernel."""

    fn: Any
    params: list[Any]

    @property
    def __name__(self) -> str:
        return "kernel"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("for i in range(0, N):\n  s += tl.dot(a, b)", {"recurrence"}),
        ("for i in range(0, C):\n  s += tl.dot(a, b)", set()),
        ("for i in range(0, C):\n  s = tl.dot(a, b, s)\n  s = tl.dot(c, d, acc=s)", {"chained_dots"}),
        ("for i in range(0, C):\n  s = tl.dot(a, b)\n  s += tl.dot(c, d)", {"chained_dots"}),
        ("for i in range(0, C):\n  s = tl.dot(a, b)\n  s = tl.dot(c, s)", set()),
        ("for i in range(0, C):\n  if C:\n    s += tl.dot(a, b)\n  else:\n    s += tl.dot(c, d)", set()),
        ("x = tl.dot(a, b).to(t)\ny = tl.dot(tl.trans(x), c)", {"transposed_product"}),
        ("y = tl.dot(tl.trans(a), c)", set()),
    ],
)
def test_traits_are_read_off_the_source(body: str, expected: set[str], monkeypatch: pytest.MonkeyPatch):
    source = f"def kernel(N, C):\n{textwrap.indent(body, '  ')}"
    ast.parse(source)
    monkeypatch.setattr(traits.inspect, "getsource", lambda function: source)
    params = [SimpleNamespace(name="N", is_constexpr=False), SimpleNamespace(name="C", is_constexpr=True)]
    kernel = Jitted(SimpleNamespace(__globals__={}), params)
    launch: Any = SimpleNamespace(kernel=kernel, arguments={"N": 5, "C": 1})
    named, dots = traits.source_traits(launch)
    assert set(named) == expected
    assert dots == body.count("tl.dot(")
    launch.arguments["N"] = 1
    assert set(traits.source_traits(launch)[0]) == expected | {"unit_argument"}


def test_register_operands_are_read_off_the_assembly():
    name = "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16"
    assert traits.assembly_traits(f"{name} {{%f1, %f2}}, {{%r1,%r2}}, %rd4, 1, 1, 1, 0;") == ("register_wgmma",)
    assert traits.assembly_traits(f"{name} {{%f1, %f2}}, %rd3, %rd4, p, 1, 1, 0, 0;") == ()


def test_the_cover_meets_every_rule_dtype_and_dimension():
    cover = subjects(("chunk_train/staged",), tuple(RULES), None, None)
    assert {subject.rule for subject in cover} == set(RULES)
    assert {subject.dtype for subject in cover} == set(DTYPES)
    assert {subject.K for subject in cover} == set(DIMS)
    assert len(subjects(("chunk_fwd/split",), ("kda",), ("bf16", "fp32"), (64, 128))) == 4


def test_selectable_configurations_are_the_tuning_space_and_can_be_read_back():
    pieces = list(selectable_pieces([SUBJECT], H100.arch))
    assert {piece.stage for piece in pieces} == {"", "scores", "states"}
    assert len(set(pieces)) == len(pieces) > 50
    assert all(LaunchConfig.parse(piece.config).token == piece.config for piece in pieces)


def test_what_tables_serve_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    entry = SimpleNamespace(
        key=SimpleNamespace(op="chunk_fwd", rule="gdn", dtype="bf16", K=64, V=64), config="c128,states=64x4x2"
    )
    elsewhere = SimpleNamespace(key=SimpleNamespace(**{**vars(entry.key), "rule": "kda"}), config="c32")
    table = SimpleNamespace(entries=[entry, entry, elsewhere])
    monkeypatch.setattr("deltaproof.verify.compile.plan.find_tables", lambda slug: (table,))
    (piece,) = table_pieces("h100-sxm", [SUBJECT])
    assert (piece.config, piece.why) == ("c128,states=64x4x2", "table")


def test_defaults_are_compiled_for_every_subject():
    cover = subjects(kernel_names(["recurrent/tokens", "first*"]), ("kda",), ("bf16",), (64,))
    assert [piece.subject.kernel for piece in default_pieces(cover)] == ["recurrent/tokens", "first_stage"]


@pytest.mark.parametrize("name", kernel_names(["*"]))
def test_the_launches_of_every_triton_kernel_are_known(name: str):
    piece = Piece(subject=replace(SUBJECT, kernel=name), config="c64")
    # This process is the interpreter's, where launches are refused; a kernel that is not known would be refused before.
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        launches_of(piece)
    with pytest.raises(ValueError, match="compile/launches"):
        launches_of(replace(piece, subject=replace(SUBJECT, kernel="chunk_fwd/nobody's")))


def test_a_crash_or_a_hang_is_told_and_not_kept(tmp_path: Path):
    ended = [Failure(outcome="crash", code=-9), Failure(outcome="timeout")]
    workers: Any = SimpleNamespace(run=lambda task, tasks, *_: enumerate(ended))
    found = dict(compile_each(compile_one, {"abc": (), "abd": ()}, workers, Cache(folder=tmp_path)))
    assert found["abc"] == Compilation(
        outcome="crash", seconds=0.0, detail="the compiling process died with code -9, twice"
    )
    assert found["abd"] == Compilation(outcome="timeout", seconds=300.0, detail="no end after 300 s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--gpu", "H1000"), "autotune gpus"),
        (("--gpu", "all,H1000"), "unknown GPU 'H1000'"),
        (("--config", "c7"), "c64,states=64x4x2"),
        (("--gpu", "all,H100", "--config", "c7"), "c64,states=64x4x2"),
        (("--dim", "512"), "256"),
        (("--dtype", "int8"), "bf16"),
        (("--rule", "nope"), "gdn2"),
        (("--kernel", "nope"), "chunk_train/staged"),
        (("--jobs", "0"), "--jobs"),
        (("--nope",), "--nope"),
    ],
)
def test_bad_usage_is_one_line(arguments: tuple[str, ...], says: str):
    done = CliRunner().invoke(app, ["compile", *arguments])
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_small_run_compiles_once_and_says_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compilation, "compiled_folder", lambda: tmp_path / "compiled")
    kernels = ("--kernel", "recurrent/tokens", "--kernel", "first_stage")
    small = (*kernels, "--rule", "linear", "--dtype", "bf16", "--dim", "16", "--jobs", "1")
    report = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["compile", "--gpu", "H100", *small, "--json", str(report)])
    assert done.exit_code == 0, done.stderr
    content = json.loads(report.read_text())
    assert {launch["launch"] for launch in content["launches"]} >= {"tokens_kernel", "l2norm_kernel"}
    assert {launch["kernel"] for launch in content["launches"]} == {"recurrent/tokens", "first_stage"}
    assert all(launch["registers"] > 0 and launch["code"] for launch in content["launches"])
    assert content["summary"]["compiled"] == len({launch["code"] for launch in content["launches"]})
    tight = replace(H100, arch=replace(H100.arch, registers_per_block=1024))
    monkeypatch.setattr(command, "find_gpu", lambda name: tight)
    again = CliRunner().invoke(app, ["compile", "--gpu", "H100", *small, "--json", str(report)])
    assert again.exit_code == 1
    assert "cannot be launched" in again.stdout
    assert "registers per program, sm_90 has 1024" in again.stdout
    summary = json.loads(report.read_text())["summary"]
    assert (summary["compiled"], summary["cached"]) == (0, content["summary"]["compiled"])
