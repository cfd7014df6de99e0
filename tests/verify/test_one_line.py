"""Whatever is wrong with a command is said in one line on stderr, with exit code 2: by the parser and by the commands."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app as autotune
from deltaproof.verify.cli.app import app as verify
from deltaproof.verify.cli.usage_errors import OneLineGroup


@pytest.mark.parametrize(
    ("app", "arguments", "says"),
    [
        (verify, ["all", "--nope"], ["verify all", "--nope", "--help"]),
        (verify, ["all", "--jobs", "0"], ["--jobs"]),
        (verify, ["all", "--jobs", "many"], ["--jobs"]),
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
        (autotune, ["report"], ["autotune report", "--gpu"]),
        (autotune, ["space", "--dim", "wide"], ["--dim"]),
        (autotune, ["export", "--to", "x", "--gpu", "H100", "--out", "out"], ["fla", "t4"]),
        (autotune, ["import", "no-such-file.json"], ["no-such-file.json"]),
        (autotune, ["nope"], ["nope"]),
    ],
)
def test_bad_usage_is_one_line(app: typer.Typer, arguments: list[str], says: list[str]):
    done = CliRunner().invoke(app, arguments, prog_name="verify" if app is verify else "autotune")
    assert done.exit_code == 2
    assert not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in says)


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
