"""The `verify` command: its subcommands are the files in `commands`."""

from __future__ import annotations

import typer

from .commands.alarms import alarms
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

  verify all --profile quick       while editing: two minutes

  verify all --rule kda            everything about one rule

  verify all --kernel 'chunk_*' --property error --property equality

  verify all --html report.html --junit report.xml

  verify replay report.json        counterexamples of a report, or one token

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


app.command("all", short_help="Judge every kernel by every property.", epilog=EXAMPLES)(judge_all)
app.command("list", short_help="List kernels, rules, properties and input regimes.")(list_everything)
app.command("replay", short_help="Run one case again, or a report's counterexamples.")(replay)
app.command("report", short_help="Show a JSON report again, in any format.")(report)
app.command("calibrate", short_help="Set or check the threshold of error budgets.")(calibrate)
app.command("alarms", short_help="Count how often right kernels are failed.")(alarms)
app.command("mutants", short_help="Plant faults, and count how many are caught.")(mutants)
app.command("explain", short_help="Show where a problem's error budget comes from.")(explain)
app.command("bytes", short_help="Count what kernels read and write.", epilog=BYTES_EXAMPLES)(count_bytes)
app.command("claims", short_help="Run the papers' claims as experiments.")(claims)
app.command("compile", short_help="Compile for GPUs that are not here.", epilog=COMPILE_EXAMPLES)(compile_all)
app.command("launch", short_help="Run any Triton code as compiled, on the CPU.", epilog=LAUNCH_EXAMPLES)(launch)


def main() -> None:
    """Entry point of the `verify` script."""
    app(prog_name="verify")
