"""Whatever is wrong with a command is said in one line on stderr, with exit code 2: by the parser and by the commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
import typer
from typer.core import TyperGroup
from typer.models import OptionInfo
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app as autotune
from deltaproof.verify.cli.app import app as verify
from deltaproof.verify.cli.usage_errors import OneLineGroup

ROOT = Path(__file__).resolve().parents[2]
REPLAY = "error@recurrent/tokens[-]@gdn2:bf16:b1:t64:h1x1:k32:v32:"


@pytest.mark.parametrize(
    ("app", "arguments", "says"),
    [
        (verify, ["all", "--nope"], ["verify all", "--nope", "--help"]),
        (verify, ["all", "--jobs", "0"], ["--jobs"]),
        (verify, ["all", "--jobs", "many"], ["--jobs"]),
        (verify, ["all", "-j", "99999999999"], ["99999999999", "at most"]),
        (autotune, ["--gpu", "H100", "-j", "99999999999"], ["99999999999", "at most"]),
        (verify, ["all", "--json", ""], ["--json is empty"]),
        (verify, ["all", "--json="], ["--json is empty"]),
        (verify, ["replay", ""], ["an argument is empty"]),
        (autotune, ["--gpu", "H100", "--out", ""], ["--out is empty"]),
        (autotune, ["export", "--to", "python", "--gpu", "H100", "--out="], ["--out is empty"]),
        (autotune, ["report", "--gpu", "H100", "--html", "."], ["--html"]),
        (verify, ["all", "--target", "../x:y"], ["../x:y", "module:function"]),
        (verify, ["all", "--target", "no.such.module:y"], ["no.such.module"]),
        (verify, ["all", "--target", "mine.py:y"], ["without .py", "mine:y"]),
        (verify, ["replay", f"{REPLAY}nosuch:s0"], ["nosuch", "ordinary"]),
        (verify, ["replay", REPLAY.replace("t64", "t99999999999") + "ordinary:s0"], ["too large", "at most"]),
        (verify, ["replay", "n" * 300], ["not a replay token"]),
        (verify, ["explain", "gdn2:bf16:b1:t64:h1x1:k3200:v32:collinear:s0"], ["3200", "256"]),
        (verify, ["explain", "gdn2:bf16:b1:t64:h1x1:k32:v32:nosuch:s0"], ["nosuch", "ordinary"]),
        (verify, ["all", "--profile", "thorough"], ["thorough", "quick", "merge", "nightly"]),
        (verify, ["all", "--device", "tpu"], ["tpu", "interpreter"]),
        (verify, ["all", "--json", "."], ["--json"]),
        (verify, ["all", "--html", "no-such-folder/page.html"], ["--html", "no-such-folder"]),
        (verify, ["all", "extra"], ["extra"]),
        (verify, ["replay"], ["token"]),
        (verify, ["nope"], ["verify", "nope"]),
        (verify, ["compile", "--gpu"], ["--gpu"]),
        (autotune, ["--nope"], ["autotune", "--nope"]),
        (autotune, ["--gpu"], ["--gpu"]),
        (autotune, ["--gpu", "H100", "--mode", "guess"], ["guess", "measure"]),
        (autotune, ["--gpu", "H100", "--budget", "0"], ["--budget", "more than 0"]),
        (autotune, ["report"], ["autotune report", "--gpu"]),
        (autotune, ["space", "--dim", "wide"], ["--dim"]),
        (autotune, ["export", "--to", "x", "--gpu", "H100", "--out", "out"], ["fla", "t4"]),
        (autotune, ["import", "no-such-file.json"], ["no-such-file.json"]),
        (autotune, ["nope"], ["nope"]),
        (verify, ["launch", "/dev/null"], ["'/dev/null' names no call", "module:call"]),
    ],
)
def test_bad_usage_is_one_line(app: typer.Typer, arguments: list[str], says: list[str]):
    done = CliRunner().invoke(app, arguments, prog_name="verify" if app is verify else "autotune")
    assert done.exit_code == 2
    assert not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in says)


def _outputs() -> Iterator[tuple[typer.Typer, str, str]]:
    """Every option that names a file to write: application, subcommand, option."""
    for app in (verify, autotune):
        assert app.registered_callback is not None
        commands = [
            ("", app.registered_callback.callback),
            *((str(c.name), c.callback) for c in app.registered_commands),
        ]
        for command, function in commands:
            for name, hint in get_type_hints(function, include_extras=True).items():
                for about in getattr(hint, "__metadata__", ()):
                    if isinstance(about, OptionInfo) and not about.dir_okay and not about.exists:
                        names = [str(word) for word in (about.default, *(about.param_decls or ()), f"--{name}")]
                        yield app, command, next(word for word in names if word.startswith("--"))


@pytest.mark.parametrize("bad", ["no-such-folder/file", "n" * 254, "."])
@pytest.mark.parametrize(("app", "command", "option"), list(_outputs()))
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    app: typer.Typer, command: str, option: str, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*([command] if command else []), option, bad])
    assert done.exit_code == 2
    assert option in done.stderr and bad[:20] in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "", "\0", "[1e999, NaN]", '{"schema": 1, "verdicts": 1}']
)
@pytest.mark.parametrize(("app", "command"), [(verify, ["report"]), (verify, ["replay"]), (autotune, ["import"])])
def test_a_file_that_is_no_report_is_one_line(app: typer.Typer, command: list[str], text: str, tmp_path: Path):
    path = tmp_path / "deep.json"
    path.write_text(text)
    done = CliRunner().invoke(app, [*command, str(path)])
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "deep.json" in done.stderr


def test_a_disk_without_room_for_what_is_printed_is_one_line():
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".import")}
    command = [sys.executable, "-m", "deltaproof.verify", "list"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == "verify: No space left on device: the output is lost\n"


@pytest.mark.parametrize("words", [["verify", "list"], ["autotune", "gpus"], ["verify", "--version"]])
def test_a_closed_standard_output_is_one_line(words: list[str]):
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".import")}
    command = ["bash", "-c", 'exec "$@" >&-', "bash", sys.executable, "-m", f"deltaproof.{words[0]}", *words[1:]]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{words[0]}: standard output is closed; accepted: a file, or /dev/null\n"


def closed() -> int:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "--help"], ["verify", "--version"], ["verify", "list"], ["autotune", "gpus"],
        ["autotune", "report", "--help"],
        ["verify", "report", "report.json", "--html", "page.html"],
        ["autotune", "export", "--gpu", "H100", "--to", "python", "--out", "out"],
    ],
)  # fmt: skip
def test_a_reader_that_leaves_ends_nothing_and_loses_no_file(words: list[str], tmp_path: Path):
    (tmp_path / "report.json").write_text(
        '{"schema": 1, "environment": {}, "verdicts": [], "summary": {"seconds": 0.0}}'
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".import"), "XDG_DATA_HOME": str(tmp_path / "data")}
    command, codes = [sys.executable, "-m", f"deltaproof.{words[0]}", *words[1:]], []
    for out in (subprocess.DEVNULL, closed()):
        done = subprocess.run(
            command, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
        codes.append((done.returncode, done.stderr))
    assert codes[0] == codes[1]
    assert all((tmp_path / word).exists() for word in words if word in ("page.html", "out"))


BUSY = """
import sys
import typer
from deltaproof.verify.cli.options import stderr
from deltaproof.verify.cli.usage_errors import OneLineGroup
from deltaproof.verify.process.signals import check_interrupt, interruptible
app = typer.Typer(cls=OneLineGroup)
@app.command()
def one():
    with interruptible():
        while True:
            stderr.print("busy")
            check_interrupt()
@app.command()
def two():
    while True:
        print("busy", file=sys.stderr, flush=True)
app(prog_name="busy")
"""


@pytest.mark.parametrize("of_sigint", [signal.SIG_DFL, signal.SIG_IGN])
@pytest.mark.parametrize("word", ["one", "two", "three"])
def test_where_nobody_reads_of_its_progress_a_command_ends(word: str, of_sigint: signal.Handlers, tmp_path: Path):
    (tmp_path / "busy.py").write_text(BUSY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / ".import"), str(tmp_path)])}
    command = [sys.executable, "-m", "busy", word]
    done = subprocess.run(
        command, stderr=closed(), env=environment, timeout=60, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, of_sigint),
    )  # fmt: skip
    assert done.returncode == 141


def test_help_and_no_arguments_are_still_answered_in_full():
    assert "verify replay" in CliRunner().invoke(verify, ["--help"]).stdout
    alone = CliRunner().invoke(verify, [])
    assert alone.exit_code == 2
    assert "Usage" in alone.output


@pytest.mark.parametrize(
    ("error", "code"), [(typer.Exit(1), 1), (typer.Exit(130), 130), (typer.Exit(), 0), (typer.Abort(), 130), (None, 0)]
)
def test_exit_codes_of_commands_pass_through(error: Exception | None, code: int):
    app = typer.Typer(cls=OneLineGroup)

    @app.command()
    def one() -> None:
        if error:
            raise error

    @app.command()
    def two() -> None: ...

    assert CliRunner().invoke(app, ["one"]).exit_code == code


@pytest.mark.parametrize(
    "text", ["raise KeyboardInterrupt", "exec('raise KeyboardInterrupt')", "def main(): raise KeyboardInterrupt"]
)
def test_an_interrupt_before_a_command_is_there_is_one_line(text: str, tmp_path: Path):
    (tmp_path / "late.py").write_text(text)
    (tmp_path / "entry.py").write_text("from deltaproof.results.files.start import start\nstart('entry', 'late')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / ".import"), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-m", "entry"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "entry: interrupted\n")


@pytest.mark.parametrize("struck", ["make_context", "invoke"])
def test_an_interrupt_while_words_are_read_or_a_command_runs_is_one_line(struck: str, monkeypatch: pytest.MonkeyPatch):
    def strike(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TyperGroup, struck, strike)
    done = CliRunner().invoke(verify, ["list"], prog_name="verify")
    assert (done.exit_code, done.stderr) == (130, "verify: interrupted\n")


def test_an_interrupt_inside_a_string_that_python_runs_ends_with_130_too(tmp_path: Path):
    (tmp_path / "entry.py").write_text(
        "import typer\n"
        "from deltaproof.verify.cli.usage_errors import OneLineGroup\n"
        "app = typer.Typer(cls=OneLineGroup)\n"
        "@app.command()\n"
        "def one(): exec('raise KeyboardInterrupt')\n"
        "@app.command()\n"
        "def two(): ...\n"
        "app(prog_name='entry')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / ".import"), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-m", "entry", "one"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "entry: interrupted\n")
