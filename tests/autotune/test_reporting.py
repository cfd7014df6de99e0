"""What the commands say of a table and its records: to a newcomer, in a narrow terminal, after the kernels have changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deltaproof.autotune import tune
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.model.ranking import HEADS, TOKENS
from deltaproof.autotune.records.ledger import Ledger, default_out
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.record import Estimated, Measured
from deltaproof.verify.cli.app import app as verify_app
from tests.helpers.synthetic import ask_none, compile_all

invoke = CliRunner(env={"COLUMNS": "80"}).invoke
FAMILY = ("--rule", "gdn", "--dim", "64", "--dtype", "fp32", "--op", "chunk_fwd")
ENTRIES = len(TOKENS) * len(HEADS)
"""Of one family."""

KERNEL, OTHER = re.compile(r'"kernel": "[0-9a-f]{16}"'), f'"kernel": "{"ab" * 8}"'
"""What a line says of the kernels that it was made for, and the same of kernels that are no longer there."""


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`autotune --gpu H100` for one family, its compiler and gate made up; `most` points, then a budget ends."""
    monkeypatch.setattr(gate, "ask", ask_none)

    def run(most: int | None = None) -> Result:
        monkeypatch.setattr(tune, "compile_points", partial(compile_all, most=most))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return invoke(app, ["--gpu", "H100", "--mode", "compile", "--out", str(tmp_path), "-j", "1", *FAMILY])

    return run


@pytest.fixture
def aged(tuned: Callable[..., Result], tmp_path: Path) -> Path:
    """A table and its records, made for kernels that are no longer there."""
    assert tuned().exit_code == 0
    for path in (*tmp_path.glob("tables/*.json"), *tmp_path.glob("records/*/*.jsonl")):
        path.write_text(KERNEL.sub(OTHER, path.read_text()))
    return tmp_path


def test_summary_and_report_count_the_same_configurations(tuned, tmp_path: Path):
    summary = tuned()
    report = invoke(app, ["report", "--gpu", "H100", "--out", str(tmp_path)])
    table = json.loads((tmp_path / "tables" / "h100-sxm.json").read_text())
    configurations = len({entry["config"] for entry in table["entries"]})
    loses = re.compile(rf"\b{configurations} +(\d+% to \d+%)")
    assert (found := loses.search(summary.stdout)) and (again := loses.search(report.stdout))
    assert found[1] == again[1]
    assert all(len(line) <= 80 for line in summary.stdout.splitlines() if line.startswith(("chunk", "family")))


def test_a_budget_that_ends_says_how_to_go_on(tuned):
    assert re.fullmatch(r"\d+ points left: the same command goes on", tuned(most=20).stdout.splitlines()[-1])
    assert "goes on" not in tuned().stdout


def test_the_space_breaks_no_number_over_lines():
    lines = invoke(app, ["space", *FAMILY]).stdout.splitlines()
    rows = [line.split() for line in lines if re.match(r"\w+ +\d", line) and "combination" not in line]
    assert rows and all(len(line) <= 80 for line in lines if re.match(r"(stage|\w+ +\d)", line))
    assert all(int(cells[1]) - sum(map(int, cells[2:-1])) == int(cells[-1]) for cells in rows)


def test_records_of_other_kernels_are_no_empty_report(aged: Path):
    result = invoke(app, ["report", "--gpu", "H100", "--out", str(aged), "--html", str(aged / "page.html")])
    assert result.exit_code == 1
    assert re.fullmatch(
        rf"autotune: {ENTRIES} entries, all made for other kernel sources: run `autotune --gpu h100-sxm --out {aged}`\n",
        result.stderr,
    )
    assert not (aged / "page.html").exists()


@pytest.mark.parametrize("form", ["python", "t4"])
def test_entries_that_are_never_served_are_not_exported(tuned, tmp_path: Path, form: str):
    assert tuned().exit_code == 0
    export = ["export", "--to", form, "--gpu", "H100", "--from", str(tmp_path), "--out", str(tmp_path / "there")]
    table = tmp_path / "tables" / "h100-sxm.json"
    fresh = table.read_text()
    table.write_text(KERNEL.sub(OTHER, fresh))
    result = invoke(app, export)
    assert result.exit_code == 1
    assert f"{ENTRIES} entries of {ENTRIES} were made for other kernel sources" in result.stderr
    assert not (tmp_path / "there").exists()
    table.write_text(KERNEL.sub(OTHER, fresh, count=4))
    result = invoke(app, export)
    assert result.exit_code == 0
    assert f"4 entries of {ENTRIES}" in result.stderr
    assert result.stdout.startswith("1 file in " if form == "python" else f"{ENTRIES - 4} files in ")


def test_a_t4_file_without_timings_says_so(tuned, tmp_path: Path):
    assert tuned().exit_code == 0
    export = ["export", "--to", "t4", "--gpu", "H100", "--from", str(tmp_path), "--out", str(tmp_path / "t4")]
    assert invoke(app, export).exit_code == 0
    result = invoke(app, ["import", str(next((tmp_path / "t4").iterdir()))])
    assert result.exit_code == 0
    assert "no timings in it" in result.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--target", "mine:call"],
            "no table out/targets/h100-sxm/mine.call.json; run `autotune --gpu h100-sxm --target mine:call",
        ),
        (["--target", "mine:call", "--html", "page.html"], "takes no --html"),
        (["--target", "fla"], "--target fla: its table has no report; `autotune --target fla` says"),
    ],
)
def test_a_report_that_there_is_not_is_refused_with_what_there_is(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = invoke(app, ["report", "--gpu", "H100", "--out", "out", *words])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert says in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["check"], ["export", "--to", "t4"], ["export", "--to", "python"]])
def test_where_there_is_no_table_it_says_what_makes_one(command: list[str], tmp_path: Path):
    where = ["--out", str(tmp_path)] if command == ["check"] else ["--from", str(tmp_path), "--out", str(tmp_path)]
    result = invoke(app, [*command, "--gpu", "B200", *where])
    assert result.exit_code == 2
    assert result.stderr.rstrip().endswith(f"run `autotune --gpu b200 --out {tmp_path}` first")
    assert len(result.stderr.splitlines()) == 1


def test_options_before_a_subcommand_are_handed_on_or_refused(tmp_path: Path):
    handed = invoke(app, ["--gpu", "h100", "report", "--out", str(tmp_path)])
    assert (handed.exit_code, "no records in" in handed.stderr) == (2, True)
    own = invoke(app, ["--gpu", "h100", "report", "--gpu", "b200", "--out", str(tmp_path)])
    assert "--gpu b200" in own.stderr
    for before, command in ((["--dim", "64"], ["space"]), (["--gpu", "h100"], ["import", __file__])):
        refused = invoke(app, [*before, *command])
        assert refused.exit_code == 2
        assert refused.stderr.startswith(f"autotune: {before[0]} before {command[0]}")


@pytest.mark.parametrize("more", [[], ["--target", "fla"]])
def test_a_folder_that_cannot_be_written_is_found_first(more: list[str], tmp_path: Path):
    (tmp_path / "file").write_text("")
    result = invoke(app, ["--gpu", "H100", "--mode", "compile", "--out", str(tmp_path / "file" / "x"), *more])
    assert result.exit_code == 2
    assert re.fullmatch(r".*--out.* cannot be a folder: .*\n", result.stderr)


def test_a_worker_without_work_leaves_no_database(tmp_path: Path):
    result = invoke(app, ["worker", "--storage", f"sqlite:///{tmp_path}/new.db"])
    assert result.exit_code == 2
    assert "nothing to do" in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_page_tells_families_apart_in_the_colours_of_its_reader(tuned, tmp_path: Path):
    assert tuned().exit_code == 0
    path = tmp_path / "page.html"
    assert invoke(app, ["report", "--gpu", "H100", "--out", str(tmp_path), "--html", str(path)]).exit_code == 0
    page = path.read_text()
    figures = re.findall(r'<svg .*? width="([\d.]+)pt"', page)
    assert len(figures) >= 6 and max(map(float, figures)) >= 850, "wider than half of the page"
    assert "currentColor" in page and "var(--page)" in page
    assert "no search to show" not in page


def test_the_page_of_what_was_timed(tuned, tmp_path: Path):
    assert tuned().exit_code == 0
    ledger = Ledger(tmp_path, resolve("h100"))
    guesses = [record for record in ledger.records if isinstance(record, Estimated)]
    ledger.add(
        Measured(
            key=guess.key, config=guess.config, kernel=guess.kernel, triton=guess.triton, resources=guess.resources,
            samples=(1.0 + number,), device="made up", driver="1", protocol="median-1",
        )
        for number, guess in enumerate(guesses)
    )  # fmt: skip
    path = tmp_path / "page.html"
    assert invoke(app, ["report", "--gpu", "H100", "--out", str(tmp_path), "--html", str(path)]).exit_code == 0
    page = path.read_text()
    assert "The best time so far at each size of call" in page
    assert "In the measured time of the whole op" in page
    assert "Nothing was timed" not in page


@pytest.mark.parametrize("command", [app, verify_app])
def test_commands_know_their_version(command):
    result = invoke(command, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"deltaproof \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize(
    ("command", "more"), [(app, []), (verify_app, []), (verify_app, ["bytes"]), (verify_app, ["compile"])]
)
def test_examples_keep_to_their_lines(command, more: list[str]):
    text = invoke(command, [*more, "--help"]).stdout.partition("Examples:")[2].partition("Exit codes")[0]
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) >= 3
    assert all(line.strip().startswith(("verify ", "autotune ")) for line in lines)


def test_a_command_that_is_advised_is_about_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One that has a space in its name, too; the user's own folder need not be named."""
    assert Ledger(tmp_path / "my runs", resolve("h100")).command("gate").split("--gpu ") == [
        "autotune gate ",
        f"h100-sxm --out '{tmp_path}/my runs'",
    ]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Ledger(default_out(), resolve("h100")).command() == "autotune --gpu h100-sxm"
