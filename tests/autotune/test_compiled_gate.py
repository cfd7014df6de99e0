"""The gate on compiled code: what has a known hazard is refused, and the next best is taken."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deltaproof.autotune import tune
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.gates import running
from deltaproof.autotune.records import findings, ledger
from deltaproof.autotune.tables import gate as compiled_gate
from deltaproof.results.digests import code
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.record import Gated
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Compilation
from deltaproof.verify.compile.overlaps import products_in_flight
from deltaproof.verify.compile.programs import triton_version
from deltaproof.verify.ptx import library
from tests.helpers.synthetic import FAMILY, ask_none, compile_all

H100 = gpu("h100")
WAIT, COPY = "wgmma.wait_group.sync.aligned {};", "cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, 0x10;"


@pytest.mark.parametrize(
    ("lines", "hazard"),
    [
        ((WAIT.format(0), COPY), False),
        ((WAIT.format(2), COPY), True),
        ((WAIT.format(2), "st.shared.v4.b32 [%r1], {%r2};"), True),
        ((WAIT.format(1), "st.global.b32 [%rd1], %r2;", "cp.async.commit_group;"), False),
        ((COPY, "cp.async.wait_group 2;"), False),
    ],
)
def test_a_wait_that_leaves_products_in_flight_is_a_hazard_where_shared_memory_is_written(lines, hazard: bool):
    assert bool(products_in_flight("\n".join(lines))) == hazard


@pytest.mark.parametrize("field", ["hazard", "misassembled"])
def test_what_becomes_hazardous_leaves_the_table_and_the_next_best_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
):
    monkeypatch.setattr(tune, "compile_points", compile_all)
    monkeypatch.setattr(gate, "ask", ask_none)
    request = tune.Request(
        gpu=H100, ops=[FAMILY.op], rules=[FAMILY.rule], dtypes=[FAMILY.dtype], dims=[FAMILY.K], jobs=1, out=tmp_path,
        cache=tmp_path / "cache",
    )  # fmt: skip
    before = tune.tune(request, tune.Hooks()).table
    worst = next(entry.config for entry in before.entries if entry.config != FAMILY.default.token)

    def with_a_hazard(points, *rest: object, **hooks):
        done = compile_all(points, *rest, on_point=lambda *_: None, **hooks)
        served = compiled_gate.points_of(FAMILY, compiled_gate.LaunchConfig.parse(worst))
        found: dict[object, Compilation] = {
            point: replace(binary, **{field: "what is wrong"}) if point == served[0] else binary
            for point, binary in done.found.items()
        }
        return replace(done, found=found)

    monkeypatch.setattr(compiled_gate, "compile_points", with_a_hazard)
    asked: list[running.RunQuestion] = []

    def run_all(questions, jobs: int):
        asked.extend(questions)
        return [running.RunAnswer(question=one, held=True, detail="as if", program="ab" * 16) for one in questions]

    monkeypatch.setattr(compiled_gate, "ask_run", run_all)
    records = ledger.Ledger(tmp_path, resolve("h100"))
    outcome = compiled_gate.gate_table(records, H100, jobs=1, progress=compiled_gate.Progress())
    assert outcome.failed and not outcome.broken
    assert len(outcome.table.entries) == len(before.entries), "the next best takes its place"
    assert worst not in {entry.config for entry in outcome.table.entries}
    again = ledger.Ledger(tmp_path, resolve("h100"))
    assert {one.config for one in again.records if isinstance(one, Gated) and not one.held} >= {worst}
    assert again.written() == again.table(), "what `autotune check` asks"
    assert worst not in {one.config.token for one in asked}, "what has a known hazard is not run"
    assert len(asked) == outcome.ran and not outcome.known
    for entry in outcome.table.entries:
        assert (entry.gate, entry.passed_under) == ("compiled", (entry.triton,))
    asked.clear()
    count = len(again.records)
    second = compiled_gate.gate_table(again, H100, jobs=1, progress=compiled_gate.Progress())
    assert not asked and second.known == outcome.ran, "what was run before, by the same engine, is not run again"
    assert second.table == outcome.table and len(again.records) == count


def test_another_triton_adds_its_verdicts_and_takes_none_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As `autotune gate` does in another environment, on the same folder."""
    monkeypatch.setattr(tune, "compile_points", compile_all)
    monkeypatch.setattr(gate, "ask", ask_none)
    request = tune.Request(
        gpu=H100, ops=[FAMILY.op], rules=[FAMILY.rule], dtypes=[FAMILY.dtype], dims=[FAMILY.K], jobs=1, out=tmp_path,
        cache=tmp_path / "cache",
    )  # fmt: skip
    here = triton_version()
    ranked = tune.tune(request, tune.Hooks()).table
    one, *others = dict.fromkeys(entry.config for entry in ranked.entries)
    assert others
    monkeypatch.setattr(
        compiled_gate, "compile_points", lambda points, *rest, **hooks: compile_all(points, on_point=lambda *_: None)
    )

    def gated_under(version: str, *failing: str):
        for module in (compiled_gate, findings):
            monkeypatch.setattr(module, "triton_version", lambda: version)
        monkeypatch.setattr(
            compiled_gate,
            "ask_run",
            lambda questions, jobs: [
                running.RunAnswer(
                    question=one, held=one.config.token not in failing, detail="a race", program="ab" * 16
                )
                for one in questions
            ],
        )
        records = ledger.Ledger(tmp_path, resolve("h100"))
        return compiled_gate.gate_table(records, H100, jobs=1, progress=compiled_gate.Progress())

    first = gated_under(here).table
    assert {entry.passed_under for entry in first.entries} == {(here,)}
    outcome = gated_under("3.6.0", one)
    assert len(outcome.failed) == 1 and one in outcome.failed[0]
    for before, entry in zip(first.entries, outcome.table.entries, strict=True):
        assert entry.passed_under == ((here,) if entry.config == one else tuple(sorted(("3.6.0", here))))
        assert replace(entry, passed_under=before.passed_under) == before, "nothing else of an entry changes"
    mended = gated_under("3.10.0").table
    assert all({here, "3.10.0"} <= set(entry.passed_under) for entry in mended.entries)
    assert gated_under(here).table == mended, "what is known is not asked again"


@pytest.mark.parametrize("rule", ["gdn2", "kda", "gdn", "linear"])
def test_a_configuration_is_run_as_calls_need_it(rule: str):
    """A plain call, and one that has all options that make other programs."""
    config = compiled_gate.LaunchConfig.parse("c32")
    question = running.RunQuestion(family=replace(FAMILY, rule=rule), config=config, arch=90)
    plain, other = running.problems(question)
    assert plain.lengths is None and not plain.qk_l2norm and not plain.gate_in_kernel
    assert other.qk_l2norm and other.gate_in_kernel == (other.rule.decay != "none")
    assert not (plain.initial_state or plain.final_state) and other.initial_state and other.final_state
    assert other.lengths is not None and 0 in other.lengths
    assert 0 < min(filter(None, other.lengths)) < config.chunk_size < max(other.lengths)


def test_what_races_when_it_is_run_is_refused_with_its_rule_and_what_does_not_passes():
    family = replace(FAMILY, dtype="bf16", K=128, V=128)
    tokens = ("c64,variant=packed,scores=64x4x2", "c32,variant=packed,scores=64x2x1,states=64x4x2")
    questions = [
        running.RunQuestion(family=family, config=compiled_gate.LaunchConfig.parse(token), arch=90) for token in tokens
    ]
    answers = {answer.question.config.token: answer for answer in running.ask_run(questions, 1)}
    races, clean = (answers[token] for token in tokens)
    assert races.held is False and "operand-in-flight" in races.detail and "packed.py:" in races.detail
    assert (
        clean.held is True and "2 calls under 3 schedules" in clean.detail and clean.program not in ("", races.program)
    )
    assert [running.can_run(arch) for arch in ("sm_80", "sm_90", "sm_100", "gfx942")] == [True, True, False, False]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, whose code stands for ours."""
    for folder in ("kernels", "specs", "verify", "autotune", "results"):
        shutil.copytree(code.PACKAGE / folder, tmp_path / folder, ignore=lambda _, names: [
            name for name in names if Path(name).suffix not in ("", ".py", ".c", ".h")
        ])  # fmt: skip
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    monkeypatch.setattr(library, "NATIVE", tmp_path / "verify/ptx/native")
    return tmp_path


def test_what_a_run_says_is_asked_again_once_the_code_that_runs_it_differs_and_not_before(copy: Path):
    def edit(name: str, old: str, new: str) -> None:
        path = copy / "verify/ptx" / name
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new))

    first = running.engine()
    edit(
        "native/schedule.h", "static void split(Warp *w) {", "/* Of its own: */ static void split(Warp *w) { // each\n"
    )
    edit("schedules.py", '"""Orders in which warps may run', '# A comment.\n"""In which order warps may run')
    edit("schedules.py", "for i in range(count)", "for i in range(count)  # all")
    assert running.engine() == first
    edit("native/schedule.h", "s->random << 13", "s->random << 14")
    assert running.engine() != first
    edit("native/schedule.h", "s->random << 14", "s->random << 13")
    edit("schedules.py", "policy=2", "policy=1")
    assert running.engine() != first
