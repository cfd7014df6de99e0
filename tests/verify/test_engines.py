"""Both engines are asked in the same way, and the foreign one plants what cosmic-ray itself would write."""

from __future__ import annotations

import ast
import json
import textwrap
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltaproof.verify.cli.app import app
from deltaproof.verify.interpreter.rewrite import parse
from deltaproof.verify.mutants.draw import draw
from deltaproof.verify.mutants.engines import ENGINES, enumerate_mutants, plant
from deltaproof.verify.mutants.engines.difference import code_of, smallest
from deltaproof.verify.mutants.engines.names import EngineName
from deltaproof.verify.mutants.mutant import Mutant, Source, family
from deltaproof.verify.mutants.operators import OPERATORS
from deltaproof.verify.verdicts.document import installed_version
from tests.helpers.toy_kernel import linear_kernel

FOREIGN = ENGINES["cosmic-ray"]
TOY = Source(name="tests.helpers.toy_kernel:linear_kernel", tree=parse(linear_kernel.fn)[0])
TARGET = ["--target", "tests.helpers.toy_kernel:linear", "--jobs", "1"]
needs_cosmic_ray = pytest.mark.skipif(
    installed_version("cosmic-ray") == "absent",
    reason="cosmic-ray is not installed; it comes with deltaproof[peers]",
)


def faults_of(text: str) -> list[str]:
    """What cosmic-ray makes of a function: the code with one fault each."""
    tree = ast.parse(textwrap.dedent(text))
    return [ast.unparse(plant(mutant, tree)) for mutant in FOREIGN.mutants_of(Source(name="m:f", tree=tree))]


def test_engines_are_those_that_the_command_names():
    assert list(ENGINES) == list(EngineName)
    assert all(family(name) == name for name in OPERATORS)


@needs_cosmic_ray
def test_faults_of_many_families_run_and_differ():
    text = ast.unparse(TOY.tree)
    mutants = enumerate_mutants(FOREIGN, [TOY])
    planted = [ast.unparse(plant(mutant, TOY.tree)) for mutant in mutants]
    for code in planted:
        compile(code, "planted", "exec", dont_inherit=True)
    assert len({text, *planted}) == len(planted) + 1
    assert len({mutant.id for mutant in mutants}) == len(mutants)
    assert {mutant.operator for mutant in mutants} <= set(FOREIGN.operators())
    assert {"core/ReplaceBinaryOperator", "core/ReplaceComparisonOperator", "core/NumberReplacer",
            "core/ZeroIterationForLoop"} <= {family(mutant.operator) for mutant in mutants}  # fmt: skip
    assert ast.unparse(TOY.tree) == text, "the tree given was changed"


@needs_cosmic_ray
def test_what_is_planted_is_what_cosmic_ray_writes():
    from cosmic_ray.mutating import mutate_code  # pyright: ignore[reportMissingImports]
    from cosmic_ray.plugins import get_operator  # pyright: ignore[reportMissingImports]

    text = ast.unparse(TOY.tree)
    assert ast.unparse(ast.parse(text)) == text
    for mutant in enumerate_mutants(FOREIGN, [TOY])[::7]:
        wanted = mutate_code(text, get_operator(mutant.operator)(), mutant.choice)
        assert ast.unparse(plant(mutant, TOY.tree)) == ast.unparse(ast.parse(wanted)), mutant


@needs_cosmic_ray
def test_a_fault_stands_at_the_line_of_the_source():
    lines = Path(linear_kernel.fn.__code__.co_filename).read_text().splitlines()
    for mutant in enumerate_mutants(FOREIGN, [TOY]):
        assert mutant.before in lines[mutant.line - 1], mutant
    changed = plant(mutant, TOY.tree)
    assert {getattr(node, "lineno", TOY.tree.body[0].lineno) for node in ast.walk(changed)} <= set(range(1, len(lines)))


@needs_cosmic_ray
def test_what_does_no_work_in_a_kernel_gets_no_fault():
    assert not faults_of('''
        @marked(1 + 1)
        def f(x: a | b = 3) -> a | b:
            """1 + 1."""
            y: a[0] = x
            return y
    ''')
    # A minus left out, and a plus in its place, are one fault.
    assert sorted(faults_of("def f(x): return -x")) == [f"def f(x):\n    return {y}" for y in ("not x", "x", "~x")]


@needs_cosmic_ray
def test_a_planted_fault_is_killed_and_the_report_says_by_whose_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "report.json"
    words = [
        "mutants",
        "--engine",
        "cosmic-ray",
        "--operator",
        "core/ZeroIterationForLoop",
        *TARGET,
        "--json",
        str(path),
    ]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    report = json.loads(path.read_text())
    assert report["setting"]["engine"] == "cosmic-ray"
    assert report["setting"]["engine_version"] == metadata.version("cosmic-ray")
    (fault,) = report["mutants"]
    assert (fault["status"], fault["by"], fault["kind"]) == ("killed", "equality", "structure")
    assert report["summary"]["operators"] == {
        "core/ZeroIterationForLoop": {"killed": 1, "survived": 0, "equivalent": 0, "excluded": 0}
    }


def test_without_cosmic_ray_it_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    answer = CliRunner().invoke(app, ["mutants", "--engine", "cosmic-ray"])
    assert answer.exit_code == 2
    (line,) = answer.stderr.strip().splitlines()
    assert "cosmic-ray" in line
    assert "deltaproof[peers]" in line


def test_many_operators_of_one_family_have_one_turn():
    def some(operator: str, count: int) -> list[Mutant]:
        return [
            Mutant(engine="cosmic-ray", id=f"{operator}{i}", function="m:f", stage="m", operator=operator, node=i, choice=0,
                   line=1, before="", after="", guards=())
            for i in range(count)
        ]  # fmt: skip

    mutants = [x for name in "abcdefgh" for x in some(f"core/Replace_{name}", 10)] + some("core/Number", 10)
    assert Counter(family(mutant.operator) for mutant in draw(mutants, 12, 0)) == {"core/Replace": 6, "core/Number": 6}


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("x = a + b * c", "x = a + b / c", ("b * c", "b / c")),
        ("x = a + b * c", "x = a * b * c", ("a + b * c", "a * b * c")),
        ("f(x[:, None], m=1)", "f(x[:, None], m=2)", ("1", "2")),
        ("x = y[1:n]", "x = y[1:n + 1]", ("n", "n + 1")),
        ("x = y[:, n]", "x = y[::2, n]", ("y[:, n]", "y[::2, n]")),
        ("x[i + 1] = y", "x[i - 1] = y", ("i + 1", "i - 1")),
        ("x = y", "z = y", ("x = y", "z = y")),
        ("for i in x:\n    break", "for i in x:\n    continue", ("break", "continue")),
        ("if x:\n    f(1)", "if not x:\n    f(1)", ("x", "not x")),
        ("x = 1", "x = True", ("1", "True")),
        ("f(x, y)", "f(x)", ("f(x, y)", "f(x)")),
    ],
)  # fmt: skip
def test_the_smallest_difference_is_a_piece_of_code(old: str, new: str, part: tuple[str, str]):
    found = smallest(ast.parse(old), ast.parse(new), range(1, 3))
    assert found is not None
    assert tuple(map(ast.unparse, found)) == part
    assert ast.dump(code_of(part[1], found[0])) == ast.dump(found[1])


def test_equal_code_has_no_difference():
    assert smallest(ast.parse("x = 1"), ast.parse("x  =  (1)"), range(1, 2)) is None
