"""The `verify` command: its subcommands are the files of `commands`."""

from __future__ import annotations

import sys

import typer

from .commandline import INTERRUPTED
from .commands.all import judge_all
from .commands.bytes import EXAMPLES as BYTES_EXAMPLES
from .commands.bytes import count_bytes
from .commands.calibrate import calibrate
from .commands.claims import claims
from .commands.compile import EXAMPLES as COMPILE_EXAMPLES
from .commands.compile import compile_all
from .commands.explain import explain
from .commands.findings import findings
from .commands.list import list_everything
from .commands.mutants import mutants
from .commands.replay import replay
from .commands.report import report
from .one_line import OneLineGroup

EXAMPLES = """
Examples:

  verify all                                     before merging: every kernel, rule and property

  verify all --profile quick                     while editing: two rules for every kernel and property

  verify all --rule kda                          everything about one rule

  verify all --kernel 'chunk_*' --property error --property equality --json report.json

  verify all --html report.html --junit report.xml    one page for people, and JUnit for CI

  verify replay 'equality@chunk_train/staged[c64]@gdn2:fp32:b1:t17:h1x1:k16:v16:ordinary:s0'

  verify explain gdn2:bf16:b1:t64:h1x1:k32:v32:collinear:s0

Exit codes: 0 what was checked holds, 1 something failed, 2 bad usage or nothing to check, 130 interrupted.
"""

app = typer.Typer(
    cls=OneLineGroup, help="Is it right? Judge kernels of the gated delta rule family against oracles.",
    epilog=EXAMPLES, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
)  # fmt: skip
app.command("all", epilog=EXAMPLES)(judge_all)
app.command("list")(list_everything)
app.command("replay")(replay)
app.command("report")(report)
app.command("calibrate")(calibrate)
app.command("mutants")(mutants)
app.command("findings")(findings)
app.command("explain")(explain)
app.command("bytes", epilog=BYTES_EXAMPLES)(count_bytes)
app.command("claims")(claims)
app.command("compile", epilog=COMPILE_EXAMPLES)(compile_all)


def main() -> None:
    """Entry point of the `verify` script."""
    try:
        app(prog_name="verify")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
