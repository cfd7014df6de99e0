"""JUnit XML: what CI servers count is what verify found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from junitparser import JUnitXml

from deltaproof.verify.report.junit import write_junit
from deltaproof.verify.verdicts.document import Document
from deltaproof.verify.verdicts.judgement import Counterexample, Verdict

HELD = Verdict(
    kernel="chunk_train/staged",
    rule="gdn2",
    target="deltaproof",
    property="error",
    arithmetic="faithful",
    status="held",
    problems=3,
    seconds=1.5,
)
FOUND = Counterexample(problem="p", config="c64", message="o is <wrong> \x07 & more", replay="error@k[c64]@p")
FAILED = replace(HELD, rule="kda", status="failed", kind="precision", counterexample=FOUND)
ERROR = replace(HELD, rule="gla", status="error", notes=("boom",))
UNSUPPORTED = replace(HELD, kernel="recurrent/tokens", status="unsupported", notes=("no backward",))


@pytest.fixture
def report(tmp_path: Path) -> JUnitXml:
    path = tmp_path / "made" / "report.xml"
    write_junit(Document.of([HELD, FAILED, ERROR, UNSUPPORTED], "interpreter", 3.0), path)
    return JUnitXml.fromfile(str(path))


def test_counts_are_those_of_the_run(report: JUnitXml):
    assert (report.tests, report.failures, report.errors, report.skipped) == (4, 1, 1, 1)


def test_a_suite_for_each_kernel_and_a_case_for_each_verdict(report: JUnitXml):
    cases = {suite.name: [case.name for case in suite] for suite in report}
    assert cases == {
        "chunk_train/staged": ["error[gdn2]", "error[kda]", "error[gla]"],
        "recurrent/tokens": ["error[gdn2]"],
    }


def test_a_failure_has_its_kind_and_its_replay_line(report: JUnitXml):
    (failure,) = next(case for suite in report for case in suite if case.name == "error[kda]").result
    assert failure.type == "precision"
    assert "failed (precision)" in failure.message
    assert failure.text is not None
    assert "verify replay 'error@k[c64]@p'" in failure.text
    assert "o is <wrong>" in failure.text


def test_what_was_not_judged_is_skipped_with_its_reason(report: JUnitXml):
    (skipped,) = next(case for suite in report for case in suite if case.classname.endswith("recurrent/tokens")).result
    assert skipped.message == "no backward"
