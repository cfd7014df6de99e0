"""`verify compile`: every kernel that may be launched compiles for its GPU and fits it, with none present."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ....specs.gpus import Gpu, gpus, shipped
from ....specs.gpus import gpu as find_gpu
from ....specs.problem import DTYPES
from ....specs.rule import RULES
from ...cases.target_names import OWN, is_function
from ...process.signals import interruptible
from ...report.bar import bar
from ..options import (
    CORES,
    FAILED,
    INTERRUPTED,
    JobsOption,
    JsonOption,
    KernelOption,
    chosen,
    stderr,
    stdout,
    usage,
    write,
)

if TYPE_CHECKING:
    from ...process.progress import Progress

FEW = "A100,H100,B200,MI300X"
"""One GPU of each architecture in wide use."""

EXAMPLES = """
Examples:

  verify compile                         the launchable kernels, for four GPUs

  verify compile --gpu H100,rtx-4090 --rule kda

  verify compile --gpu H100 --config c128,states=64x4x2 --dim 128

  verify compile --gpu all --all         every choice and GPU: hours

  verify compile --gpu H100 --target module:function

Exit codes: 0 everything compiles, fits and is assembled correctly, 1 something does not, 2 bad usage, 130 interrupted.
"""


def compile_all(
    gpu: Annotated[str, typer.Option("--gpu", help=f"Comma-separated names, or 'all': {', '.join(shipped())}.")] = FEW,
    kernel: KernelOption = None,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="Only these rules; may be repeated.")] = None,
    dtype: Annotated[list[str] | None, typer.Option("--dtype", help="bf16, fp16, fp32; may be repeated.")] = None,
    dim: Annotated[list[int] | None, typer.Option("--dim", help="K = V; may be repeated.")] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", help="Also compile this configuration (autotune's syntax); may be repeated."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also compile every selectable configuration.")] = False,
    jobs: JobsOption = CORES,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore stored results and compile everything again.")] = False,
    json_path: JsonOption = None,
    target: Annotated[
        str, typer.Option("--target", help="Whose kernels: deltaproof or module:function.", metavar="TARGET")
    ] = OWN,
) -> None:
    """Cross-compile every launchable kernel for GPUs that need not be present; check its size and its machine code.

    By default it compiles the safe configuration and those that tables serve: of every rule in bf16 with head dimension 128,
    and of the most general rule in fp16 with 64 and in fp32 with 256. If you name dtypes or dimensions, it compiles all
    combinations.

    The kernels that somebody's function launches are compiled in every configuration that their autotuners are offered; in bf16
    with head dimension 128 unless you name others. A function without arguments is called as it is.
    """
    from ....kernels.configs.launch_config import LaunchConfig
    from ....results.schema.strict import TableError
    from ...compile import plan

    started = time.monotonic()
    some = _gpus(gpu)
    if target != OWN:
        _named(target)
        _own_options(kernel=kernel, config=config, all=everything)
        some = _nvidia(some, named=gpu not in (FEW, "all"))
    rules = chosen("rule", rule, RULES)
    dtypes = chosen("dtype", dtype, DTYPES) if dtype else None
    if wrong := [size for size in dim or () if not 1 <= size <= 256]:
        usage(f"--dim {wrong[0]}: head dimensions are from 1 to 256")
    try:
        wanted = plan.subjects(plan.kernel_names(kernel or ("*",)), rules, dtypes, dim)
        tokens = [LaunchConfig.parse(token).token for token in config or ()]
        pieces = {
            one: [
                *plan.default_pieces(wanted),
                *plan.table_pieces(one.slug, wanted),
                *plan.named_pieces(tokens, wanted),
                *(plan.selectable_pieces(wanted, one.arch) if everything else ()),
            ]
            for one in (some if target == OWN else ())
        }
    except (ValueError, TableError) as error:
        usage(str(error))

    from ...compile.compilation import Cache, compiled_folder
    from ...compile.report import document, print_run
    from ...compile.run import run, run_target

    store = Cache(folder=compiled_folder(), warn=lambda text: stderr.print(f"warning: {text}", soft_wrap=True))
    with interruptible(), _shown() as progress:
        try:
            if target == OWN:
                found = run(pieces, store, jobs, fresh=fresh, progress=progress)
            else:
                asked: Any = (tuple(rule or ()), dtypes or (plan.MAIN_DTYPE,), tuple(dim or (plan.MAIN_DIM,)))
                found = run_target(target, some, asked, store, jobs, fresh=fresh, progress=progress)
        except ValueError as error:
            usage(str(error))
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            stderr.print(f"verify: {error}; what was compiled is kept", soft_wrap=True, markup=False)
            raise typer.Exit(FAILED) from None
    seconds = time.monotonic() - started
    print_run(stdout, found, seconds)
    if json_path is not None:
        write(json_path, document(found, seconds))
    if found.left:
        stderr.print("interrupted: what was compiled is kept, and the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(FAILED if any(diagnostic.failed for diagnostic in found.diagnostics) else 0)


def _gpus(names: str) -> list[Gpu]:
    try:
        found = [gpu for name in names.split(",") for gpu in (gpus().values() if name == "all" else [find_gpu(name)])]
    except ValueError as error:
        usage(str(error))
    return list({known.slug: known for known in found}.values())


def _named(target: str) -> None:
    """End with one line where a target has no form of a name: nothing is imported to find that out."""
    if not is_function(target):
        usage(f"--target {ascii(target)[:60]}: accepted: {OWN} or module:function")


def _own_options(**given: object) -> None:
    """End with one line where an option is given that only our own kernels have."""
    for name, value in given.items():
        if value:
            usage(f"--{name} does not go with --target: a target is compiled in every configuration that it offers")


def _nvidia(some: list[Gpu], *, named: bool) -> list[Gpu]:
    """Those on which a process can pretend to run; where others were named, the end with one line."""
    for one in some:
        if one.arch.backend != "cuda" and named:
            usage(f"--gpu {one.slug} is {one.arch.name}; with --target, NVIDIA's GPUs are accepted")
    return [one for one in some if one.arch.backend == "cuda"]


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar with the time that is left, on a terminal."""
    from ...process.progress import Progress

    with bar(stderr) as shown:

        def begin(phase: str, total: int) -> None:
            for task in shown.task_ids:
                shown.remove_task(task)
            shown.add_task("", total=total, title=phase)

        yield Progress(
            begin=begin, step=lambda text: shown.update(shown.task_ids[-1], advance=1, description=text)
        )  # fmt: skip
