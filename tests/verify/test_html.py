"""The page of a run: complete, self-contained, escaped, and honest about what failed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.verify.cases.replay import Case
from deltaproof.verify.cli.app import app
from deltaproof.verify.execution.ratios import worst_case, worst_ratios
from deltaproof.verify.report.html import page
from deltaproof.verify.report.junit import write_junit
from deltaproof.verify.report.markdown import markdown
from deltaproof.verify.report.text import details
from deltaproof.verify.verdicts.document import Document, document, read_document
from deltaproof.verify.verdicts.judgement import Counterexample, Verdict
from deltaproof.verify.verdicts.outcome import Outcome

HELD = Verdict(
    kernel="chunk_train/staged",
    rule="gdn2",
    target="deltaproof",
    property="error",
    arithmetic="faithful",
    status="held",
    problems=3,
    seconds=1.5,
    worst_ratio=0.25,
    worst="error@chunk_train/staged[c64]@gdn2:bf16:b1:t3:h1x1:k1:v1:reset:s0",
    ratios=(("ordinary", "o", 0.125), ("reset", "dg", 0.25)),
    configs=("c64",),
)
FOUND = Counterexample(
    problem="gdn2:fp32:b1:t2:h1x1:k1:v1:ordinary:s0",
    config="c64",
    message="o <script>alert(1)</script> & differs",
    replay="equality@chunk_train/staged[c64]@gdn2:fp32:b1:t2:h1x1:k1:v1:ordinary:s0",
    stage="states",
    story="Stage states is wrong for the inputs that it received.",
)
FAILED = replace(
    HELD, property="equality", status="failed", kind="structure", counterexample=FOUND, ratios=(), worst_ratio=None
)
UNSUPPORTED = replace(
    HELD, property="memory", status="unsupported", problems=0, notes=("no Triton kernels",), ratios=()
)
RUN = Document.of([HELD, FAILED, UNSUPPORTED, replace(HELD, rule="kda")], "interpreter", 12.5)


class Reader(HTMLParser):
    """What a page is made of: its tags, ids and links, and its text."""

    VOID = ("meta", "link", "br", "hr", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def attributes(reader: Reader, name: str) -> set[str]:
    return {value for _, attrs in reader.tags if (value := attrs.get(name))}


def test_page_is_well_formed_and_needs_nothing_else():
    reader = Reader(page(RUN))
    assert not reader.open
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in reader.tags}
    assert not re.search(r"https?://|url\(|@import", page(RUN))
    assert "viewport" in attributes(reader, "name")


def test_every_link_leads_to_something():
    reader = Reader(page(RUN))
    links = {link.removeprefix("#") for link in attributes(reader, "href")}
    assert links
    assert links <= attributes(reader, "id")


def test_failures_are_told_in_full_and_escaped():
    text = page(RUN)
    assert "<script>" not in text
    reader = Reader(text)
    assert "1 verdict failed" in reader.text
    for words in (FOUND.message, FOUND.story, FOUND.problem, f"verify replay '{FOUND.replay}'"):
        assert words is not None
        assert words in reader.text


def test_every_form_of_a_report_says_the_stage_at_fault_once(tmp_path: Path):
    write_junit(RUN, tmp_path / "report.xml")
    forms = (page(RUN), "\n".join(markdown(RUN)), (tmp_path / "report.xml").read_text(), "\n".join(details(FAILED)))
    for text in forms:
        assert text.count("first stage at fault: states") == len(re.findall("at fault|faulty", text)) == 1


def test_a_failure_in_the_matrix_links_to_its_story():
    (square,) = (attrs for tag, attrs in Reader(page(RUN)).tags if tag == "a" and attrs.get("class") == "square")
    assert square["href"] == "#failure-1"


def test_heat_map_shows_the_worst_of_each_regime_and_tensor():
    over = replace(HELD, rule="gdn", ratios=(("ordinary", "o", 3.5), ("reset", "dg", float("nan"))), worst_ratio=3.5)
    text = page(Document.of([HELD, over], "interpreter", 1.0))
    cells = re.findall(r'<td class="over"><span[^>]*>([^<]*)<', text)
    assert sorted(cells) == ["3.5", "nan"]
    assert '<span style="--h: 0.250">0.25<' in page(RUN)


def test_a_clean_run_says_so_and_one_that_judged_nothing_does_not():
    assert "Everything judged holds" in page(Document.of([HELD], "interpreter", 1.0))
    assert "Nothing was judged" in page(Document.of([UNSUPPORTED], "interpreter", 1.0))


def test_environment_names_versions_and_commit():
    reader = Reader(page(RUN))
    for name in ("commit", "python", "torch", "triton", "platform", "device"):
        assert name in reader.text


def test_a_run_survives_json_with_what_the_page_needs(tmp_path: Path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(RUN.to_json(), allow_nan=False))
    assert page(read_document(path)) == page(RUN)


def test_reports_of_earlier_versions_are_still_read(tmp_path: Path):
    content = document([HELD], "interpreter", 1.0)
    for record in content["verdicts"]:
        del record["ratios"], record["worst"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(content))
    assert "Everything judged holds" in page(read_document(path))


@pytest.mark.parametrize(("verdicts", "code"), [([HELD], 0), ([HELD, FAILED], 1), ([UNSUPPORTED], 3)])
def test_report_command_makes_the_page_and_exits_as_the_run_did(tmp_path: Path, verdicts: list[Verdict], code: int):
    kept, made = tmp_path / "report.json", tmp_path / "page.html"
    kept.write_text(json.dumps(document(verdicts, "interpreter", 1.0)))
    done = CliRunner().invoke(app, ["report", str(kept), "--html", str(made)])
    assert done.exit_code == code
    assert made.read_text() == page(read_document(kept))


def test_report_command_refuses_other_files_in_one_line(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"schema": 1, "verdicts": [1]}')
    for name in ("x.json", "none.json"):
        done = CliRunner().invoke(app, ["report", str(tmp_path / name)])
        assert done.exit_code == 2
        assert len(done.stderr.strip().splitlines()) == 1


def test_worst_ratios_put_nan_above_all():
    from deltaproof.specs.problem import Problem

    cases = [Case(problem=Problem.parse(f"gdn2:fp32:b1:t{t}:h1x1:k1:v1:ordinary:s0")) for t in (1, 2, 3)]
    seen = {
        cases[0]: Outcome(status="held", ratio=0.5, ratios=(("o", 0.5), ("dg", 0.25))),
        cases[1]: Outcome(status="failed", ratio=float("nan"), ratios=(("o", float("nan")),)),
        cases[2]: Outcome(status="failed", ratio=9.0, ratios=(("o", 9.0), ("dg", 0.125))),
    }
    assert worst_case(seen) is cases[1]
    (dg, o) = worst_ratios(seen)
    assert dg == ("ordinary", "dg", 0.25)
    assert o[:2] == ("ordinary", "o")
    assert o[2] != o[2]
