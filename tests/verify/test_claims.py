"""`verify claims`: its verdicts, its controls, its reports, and that it notices when a verdict changes."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deltaproof.verify import claims as package
from deltaproof.verify.claims import CLAIMS, Claim, ClaimFinding
from deltaproof.verify.claims.base import CONTROL, holds, under_conditions
from deltaproof.verify.cli.app import app


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["claims", *arguments])


def test_there_are_claims_of_every_kind_and_each_has_its_place():
    papers = [claim for claim in CLAIMS.values() if not claim.control]
    controls = [claim for claim in CLAIMS.values() if claim.control]
    assert len(papers) >= 20
    assert len(controls) >= 3
    assert {claim.expected for claim in papers} == {"holds", "holds under conditions", "does not hold"}
    assert all(claim.expected == "does not hold" for claim in controls)
    assert all(claim.source and claim.claim.endswith(".") for claim in CLAIMS.values())


@pytest.mark.parametrize("name", CLAIMS)
def test_the_verdict_is_the_recorded_one(name: str):
    finding = CLAIMS[name].run()
    assert finding.verdict == CLAIMS[name].expected, finding.measured
    assert finding.measured


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (holds(True, "m"), "holds"),
        (holds(False, "m"), "does not hold"),
        (under_conditions(True, True, "m"), "holds"),
        (under_conditions(True, False, "m"), "holds under conditions"),
        (under_conditions(False, True, "m"), "does not hold"),
    ],
)
def test_numbers_decide(finding: ClaimFinding, verdict: str):
    assert finding.verdict == verdict


def test_reports(tmp_path: Path):
    document, page = tmp_path / "claims.json", tmp_path / "claims.html"
    done = verify("--claim", "sum-rule", "--claim", "control-mean-rule", "--json", str(document), "--html", str(page))
    assert done.exit_code == 0, done.output
    assert "1 claims: 1 hold. 1 of 1 negative controls fail, as they must" in done.output
    content = json.loads(document.read_text())
    assert content["schema"] == 1
    first, second = content["claims"]
    assert {"claim", "source", "measured", "verdict"} <= set(first)
    assert first["verdict"] == "holds" and second["control"] and second["verdict"] == "does not hold"
    text = html.unescape(page.read_text())
    assert first["claim"] in text and first["measured"] in text
    assert "http" not in text


def test_another_verdict_than_the_recorded_one_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    control = Claim(
        name="control", claim="One is two.", source=f"{CONTROL} to arithmetic", expected="does not hold",
        run=lambda: holds(True, "they are equal"),
    )  # fmt: skip
    monkeypatch.setattr(package, "CLAIMS", {"control": control})
    monkeypatch.setattr(package, "GROUPS", {"Arithmetic": (control,)})
    page = tmp_path / "claims.html"
    done = verify("--html", str(page))
    assert done.exit_code == 1
    assert "0 of 1 negative controls fail" in done.output and "1 not as recorded" in done.output
    assert "recorded before" in page.read_text()


def test_bad_usage_is_one_line(tmp_path: Path):
    unknown = verify("--claim", "nope")
    assert unknown.exit_code == 2
    assert "sum-rule" in unknown.output
    unwritable = verify("--claim", "sum-rule", "--html", str(tmp_path))
    assert unwritable.exit_code == 2
