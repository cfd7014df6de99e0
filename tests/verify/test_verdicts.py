"""Verdicts and their documents survive JSON; exit codes follow from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.verify.report.text import coverage, notes
from deltaproof.verify.verdicts.document import SCHEMA, document, exit_code, read_document
from deltaproof.verify.verdicts.judgement import Verdict
from tests.helpers.verdicts import ERROR, FAILED, FOUND, HELD, UNSUPPORTED

INAPPLICABLE = replace(UNSUPPORTED, status="inapplicable", notes=("nothing is tied",))
numbers = st.none() | st.floats(allow_nan=False)


@given(ratio=numbers, expected=numbers, got=numbers, index=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_verdict_survives_json(ratio, expected, got, index):
    found = replace(FOUND, expected=expected, got=got, index=index, tensor="dk", token=3)
    verdict = replace(FAILED, worst_ratio=ratio, counterexample=found, notes=("a", "b"))
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == verdict


def test_nan_survives_json_as_text():
    record = json.loads(json.dumps(replace(HELD, worst_ratio=float("nan")).to_json(), allow_nan=False))
    assert record["worst_ratio"] == "nan"
    ratio = Verdict.from_json(record).worst_ratio
    assert ratio is not None
    assert ratio != ratio


def test_later_fields_are_ignored():
    assert Verdict.from_json({**HELD.to_json(), "colour": "blue"}) == HELD


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"kind": "odd"},
        {"status": "failed"},
        {"status": "failed", "kind": "memory"},
        {"kind": "memory"},
        {"arithmetic": "float"},
    ],
)
def test_impossible_verdicts_cannot_be_made(change):
    with pytest.raises(ValueError, match=r"status|kind|arithmetic"):
        Verdict.from_json({**HELD.to_json(), **change})


def test_document_has_what_readers_rely_on():
    content = document([HELD, FAILED, ERROR, UNSUPPORTED], "interpreter", 2.0)
    assert content["schema"] == SCHEMA
    assert {"python", "torch", "triton", "numpy", "platform", "device"} <= set(content["environment"])
    assert {"held": 1, "failed": 2, "unsupported": 1, "seconds": 2.0}.items() <= content["summary"].items()
    fields = {"kernel", "rule", "target", "property", "arithmetic", "status", "kind", "worst_ratio", "problems"}
    assert all(fields | {"counterexample"} <= set(record) for record in content["verdicts"])
    assert content["verdicts"][1]["counterexample"]["replay"] == "r"


def test_documents_are_read_back(tmp_path: Path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document([HELD, FAILED], "interpreter", 2.0)))
    assert read_document(path).verdicts == [HELD, FAILED]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99, "verdicts": []}', "\x00"])
def test_other_files_are_refused(tmp_path: Path, text: str):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="report"):
        read_document(path)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([HELD], 0),
        ([HELD, INAPPLICABLE], 0),
        ([HELD, FAILED], 1),
        ([HELD, ERROR], 1),
        ([FAILED, UNSUPPORTED], 1),
        ([HELD, UNSUPPORTED], 3),
        ([UNSUPPORTED], 3),
        ([INAPPLICABLE], 2),
        ([], 2),
    ],
)
def test_exit_codes(verdicts: list[Verdict], code: int):
    assert exit_code(verdicts) == code
    assert exit_code(verdicts, allow_unsupported=True) == (0 if code == 3 else code)


def test_what_does_not_apply_is_told_and_not_counted():
    assert coverage([HELD, INAPPLICABLE], 1.0).startswith("1 held: 3 problems")
    assert notes([HELD, INAPPLICABLE]) == ["does not apply in 1 cell: nothing is tied"]
    told = ("2 declined by the kernel: takes no scale", "1 not judged: exact arithmetic has no clamp")
    before = ("2 declined: takes no scale", "3 to which it does not apply: has one configuration")
    assert notes([replace(HELD, notes=told), replace(HELD, notes=before)]) == [
        "declined by the kernel in 2 cells: takes no scale",
        "not judged in 1 cell: exact arithmetic has no clamp",
        "does not apply in 1 cell: has one configuration",
    ]
