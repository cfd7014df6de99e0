"""The `autotune` command: each subcommand is a file of `commands`.

Nothing here imports torch before the command is known to have work to do.
"""

from __future__ import annotations

import typer

from ...verify.cli.usage_errors import OneLineGroup
from .commands.bench_model import bench_model
from .commands.bench_search import bench_search
from .commands.check import check
from .commands.defaults import defaults
from .commands.export import export
from .commands.gate import gate
from .commands.gpus import gpus
from .commands.import_t4 import import_results
from .commands.publish import publish
from .commands.rekey import rekey
from .commands.report import report
from .commands.space import space
from .commands.tune import tune_all
from .commands.worker import worker

EXAMPLES = """
Examples:

  autotune --gpu H100                      no H100 here: compile for it

  autotune --gpu H100 --rule kda --dim 64  one rule, one size

  autotune --gpu H100 --budget 30m         repeat it to go on

  autotune report --gpu H100               what was rejected, and why

  autotune --gpu H100 --target m:function  your own @triton.autotune kernels

Exit codes: 0 done, and everything in the table passed the gate; 1 something failed; 2 bad usage; 130 interrupted.
"""

app = typer.Typer(
    cls=OneLineGroup, help="Which configuration? Make tables of tuned configurations that are verified, and keep the evidence.",
    epilog=EXAMPLES, add_completion=False, rich_markup_mode=None,
)  # fmt: skip

app.callback(invoke_without_command=True)(tune_all)
app.command("worker", short_help="Join a shared run, and measure here.")(worker)
app.command("space", short_help="Show the size of the search space.")(space)
app.command("report", short_help="Show what was kept and rejected, and why.")(report)
app.command("gpus", short_help="List the GPUs that are known; show how to add one.")(gpus)
app.command("check", short_help="Check whether a table still holds.")(check)
app.command("gate", short_help="Run ranked configurations as compiled; reject faults.")(gate)
app.command("defaults", short_help="Judge the safe defaults as compiled.")(defaults)
app.command("rekey", short_help="Keep the entries that a kernel edit left alone.")(rekey)
app.command("publish", short_help="Move a table into results/ of a checkout.")(publish)
app.command("export", short_help="Write a table in the format of another program.")(export)
app.command("import", short_help="Show a T4 file of any tuner.")(import_results)
app.command("bench-search", short_help="Compare our search with others.")(bench_search)
app.command("bench-model", short_help="Compare the cost model with recorded times.")(bench_model)


def main() -> None:
    """Entry point of the `autotune` script."""
    app(prog_name="autotune")
