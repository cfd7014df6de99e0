"""The pytest plugin, on a toy package of somebody else's."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from deltaproof.verify.properties import NAMES
from deltaproof.verify.subprocess_run import failures
from deltaproof.verify.verdicts.document import Document
from deltaproof.verify.verdicts.judgement import Counterexample, Verdict

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "no:deltaproof", "-p", "deltaproof.verify.pytest_plugin", "-p", "no:xdist", "-p", "no:cacheprovider")
"""Loaded by name, so that it is the plugin of this checkout, installed or not."""

KERNELS = """
from dataclasses import replace

from deltaproof.kernels import KERNELS

TOKENS = KERNELS["recurrent/tokens"]


def halved(**arguments):
    o, ht = TOKENS.run(**arguments)
    return o * 0.5, ht


RIGHT = {"toy/right": replace(TOKENS, name="toy/right")}
WRONG = {"toy/halved": replace(TOKENS, name="toy/halved", run=halved)}
"""

TESTS = """
def test_right(deltaproof):
    document = deltaproof.check("toy.ops:RIGHT", rule="linear", properties=["linearity"])
    assert [verdict.kernel for verdict in document.verdicts] == ["toy/right"]


def test_missing(deltaproof):
    deltaproof.check("toy.ops:NONE", rule="linear")
"""

HELD = Verdict(
    kernel="toy/right",
    rule="linear",
    target="toy.ops:RIGHT",
    property="linearity",
    arithmetic="exact",
    status="held",
    problems=3,
    seconds=1.5,
)
FOUND = Counterexample(problem="p", config="c64", message="wrong by half", replay="r", story="It is the scale.")
FAILED = replace(HELD, status="failed", kind="structure", counterexample=FOUND)
UNSUPPORTED = replace(HELD, status="unsupported", problems=0, notes=("has no backward pass",))


@pytest.fixture
def toy(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A package `toy` with a right kernel and a wrong one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / ".import"))
    pytester.mkpydir("toy").joinpath("ops.py").write_text(KERNELS)
    return pytester


def test_the_fixture_checks_a_kernel_in_three_lines(toy: pytest.Pytester):
    toy.makepyfile(test_toy=TESTS)
    done = toy.runpytest_subprocess(*PLUGIN, "-o", "pythonpath=.", "-rA")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*target 'toy.ops:NONE' cannot be imported*"])
    done.stdout.no_fnmatch_line("*Traceback*")


def test_declared_kernels_are_collected_and_judged(toy: pytest.Pytester):
    toy.makeini("[pytest]\npythonpath = .\ndeltaproof_targets =\n    toy.ops:WRONG linear\n")
    done = toy.runpytest_subprocess(*PLUGIN, "--deltaproof", "-v", "-k", "linearity or equality or determinism")
    done.assert_outcomes(passed=1, failed=1, skipped=1, deselected=len(NAMES) - 3)
    done.stdout.fnmatch_lines(["*toy.ops:WRONG[[]equality] FAILED*"])
    done.stdout.fnmatch_lines(["*smallest problem: linear:fp32:*", "*replay: verify replay*'equality@toy/halved[[]*"])


def test_failures_are_told_with_their_story_and_replay_line():
    text = failures(Document.of([HELD, FAILED], "interpreter", 1.0))
    for words in (
        "failed (structure): linearity of toy/right on linear",
        "wrong by half",
        "It is the scale.",
        "verify replay --target toy.ops:RIGHT 'r'",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("verdicts", "says", "allowed"),
    [
        ([HELD], "", ""),
        ([HELD, UNSUPPORTED], "not judged: linearity of toy/right on linear\n  has no backward pass", ""),
        ([UNSUPPORTED], "no backward", "nothing could be judged"),
        ([FAILED, UNSUPPORTED], "not judged: linearity", "failed (structure)"),
        ([], "nothing could be judged", "nothing could be judged"),
    ],
)
def test_what_was_not_judged_is_no_success(verdicts: list[Verdict], says: str, allowed: str):
    oracle = replace(HELD, kernel="oracle", property="oracle")
    document = Document.of([oracle, *verdicts], "interpreter", 1.0)
    for text, expected in ((failures(document), says), (failures(document, allow_unsupported=True), allowed)):
        assert bool(text) == bool(expected)
        assert expected in text


CLAMPED = """
from dataclasses import replace

from deltaproof.kernels import KERNELS

TOKENS = KERNELS["recurrent/tokens"]


def clamped(**arguments):
    o, ht = TOKENS.run(**arguments)
    return o.clamp(min=-1e4), ht


CLAMPED = {"toy/clamped": replace(TOKENS, name="toy/clamped", run=clamped)}
"""


@pytest.mark.parametrize(("words", "outcome"), [([], "failed"), (["--deltaproof-allow-unsupported"], "skipped")])
def test_a_property_that_could_not_be_judged_fails_unless_that_is_allowed(
    toy: pytest.Pytester, words: list[str], outcome: str
):
    toy.mkpydir("other").joinpath("ops.py").write_text(CLAMPED)
    toy.makeini("[pytest]\npythonpath = .\ndeltaproof_targets =\n    other.ops:CLAMPED linear\n")
    done = toy.runpytest_subprocess(*PLUGIN, "--deltaproof", *words, "-k", "equality")
    done.assert_outcomes(**{outcome: 1}, deselected=len(NAMES) - 1)


def test_asking_for_kernels_where_there_are_none_is_bad_usage(pytester: pytest.Pytester):
    done = pytester.runpytest_subprocess(*PLUGIN, "--deltaproof")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*deltaproof_targets*deltaproof.targets*"])


def test_without_the_option_nothing_is_collected_and_nothing_heavy_imported(pytester: pytest.Pytester):
    pytester.makeini("[pytest]\ndeltaproof_targets =\n    toy.ops:WRONG\n")
    pytester.makepyfile("""
        import sys

        def test_light():
            assert not {"torch", "triton", "numpy", "hypothesis", "typer", "rich"} & set(sys.modules)
    """)
    done = pytester.runpytest_subprocess(
        *PLUGIN, "-p", "no:hypothesispytest", "-p", "no:benchmark", "--collect-only", "-q"
    )
    done.stdout.no_fnmatch_line("*toy.ops*")
    pytester.runpytest_subprocess(*PLUGIN, "-p", "no:hypothesispytest", "-p", "no:benchmark").assert_outcomes(passed=1)


def test_collecting_imports_no_torch():
    code = "import sys, deltaproof.verify.pytest_plugin; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_wheel_registers_the_plugin():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"deltaproof": "deltaproof.verify.pytest_plugin"}
