"""The `verify` command: its subcommands are the files in `commands`."""

from __future__ import annotations

import typer

from .commands.all import judge_all
from .commands.bytes import EXAMPLES as BYTES_EXAMPLES
from .commands.bytes import count_bytes
from .commands.calibrate import calibrate
from .commands.claims import claims
from .commands.compile import EXAMPLES as COMPILE_EXAMPLES
from .commands.compile import compile_all
from .commands.explain import explain
from .commands.launch import EXAMPLES as LAUNCH_EXAMPLES
from .commands.launch import launch
from .commands.list import list_everything
from .commands.mutants import mutants
from .commands.replay import replay
from .commands.report import report
from .options import EXIT_CODES, VersionOption
from .usage_errors import OneLineGroup

EXAMPLES = f"""
Examples:

  verify all                       before merging: everything

  verify all --profile quick       while editing: a minute or two

  verify all --rule kda            everything about one rule

  verify all --kernel 'chunk_*' --property error --property equality

  verify all --html report.html --junit report.xml

  verify replay report.json        its counterexamples, or a token's

  verify explain gdn2:bf16:b1:t64:h1x1:k32:v32:collinear:s0

{EXIT_CODES}
"""

app = typer.Typer(
    cls=OneLineGroup, help="Is it right? Judge kernels of the gated delta rule family against oracles.",
    epilog=EXAMPLES, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
)  # fmt: skip


@app.callback()
def every(version: VersionOption = False) -> None:
    """Options that stand before a subcommand."""


app.command("all", epilog=EXAMPLES)(judge_all)
app.command("list")(list_everything)
app.command("replay")(replay)
app.command("report")(report)
app.command("calibrate")(calibrate)
app.command("mutants")(mutants)
app.command("explain")(explain)
app.command("bytes", epilog=BYTES_EXAMPLES)(count_bytes)
app.command("claims")(claims)
app.command("compile", epilog=COMPILE_EXAMPLES)(compile_all)
app.command("launch", epilog=LAUNCH_EXAMPLES)(launch)


def main() -> None:
    """Entry point of the `verify` script."""
    app(prog_name="verify")
