"""`verify bytes`: how many bytes kernels move, counted in the interpreter, beside the least that they must; or counts of their
compiled programs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ....specs.problem import DTYPES
from ....specs.rule import RULES
from ...cases.target_names import OWN
from ...cases.workload import MOST
from ..options import (
    FAILED,
    NOT_JUDGED,
    Device,
    DeviceOption,
    JsonOption,
    KernelOption,
    chosen,
    prepare,
    stderr,
    stdout,
    usage,
    write,
)

if TYPE_CHECKING:
    from ...execution.counts import CallCounts
    from ...execution.traffic import CallTraffic

EXAMPLES = """
Examples:

  verify bytes                           our kernels, three rules

  verify bytes --target deltaproof --target fla     beside FLA's

  verify bytes --decode --batch 64       one token for 64 sequences

  verify bytes --backward --stages       a step of training, every kernel

  verify bytes --device sm_90 --stages   every launch as compiled
"""

SAVED = (
    "saved: bytes that lie in memory between the passes, inputs included; kept: what the backward pass would else compute again "
    "(disable_recompute=True in our own op)"
)


def count_bytes(
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Whose kernels; may be repeated. Ours by default.")
    ] = None,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="Rules; gdn2, kda and gdn by default.")] = None,
    kernel: KernelOption = None,
    decode: Annotated[bool, typer.Option("--decode", help="One token per sequence, with states.")] = False,
    backward: Annotated[
        bool, typer.Option("--backward", help="Forward and backward, of kernels that have both.")
    ] = False,
    tokens: Annotated[int | None, typer.Option(min=1, max=MOST, help="Tokens per sequence; 256 by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=MOST, help="Sequences.")] = 1,
    heads: Annotated[int, typer.Option(min=1, max=MOST, help="Heads of q, k and v.")] = 1,
    channels: Annotated[int, typer.Option(min=1, max=256, help="K and V.")] = 128,
    dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32.")] = "bf16",
    config: Annotated[
        str | None,
        typer.Option(help="A launch configuration, such as c64; by default the one that is served for --device."),
    ] = None,
    options: Annotated[
        str, typer.Option(help="Work that the kernel does, too: l2norm, gate, or both as l2norm,gate.")
    ] = "",
    stages: Annotated[bool, typer.Option("--stages", help="Print a line for every launch.")] = False,
    device: DeviceOption = Device.interpreter,
    json_path: JsonOption = None,
) -> None:
    """Count the bytes that a call reads and writes: distinct bytes per launch, and all bytes that its programs request.

    With --device sm_90, count the work of the compiled programs: sectors of global memory and their use, wavefronts of shared
    memory against the ideal, products, and trips of loops.
    """
    if device is Device.cuda:
        usage("--device cuda: bytes are counted on the CPU alone; accepted: interpreter, sm_80, sm_86, sm_89, sm_90")
    if decode and tokens not in (None, 1):
        usage(f"--tokens {tokens}: with --decode a sequence has one token")
    rules = chosen("rule", rule or ["gdn2", "kda", "gdn"], RULES)
    if dtype not in DTYPES:
        usage(f"--dtype is {dtype!r}; accepted: {', '.join(DTYPES)}")
    wanted = tuple(options.split(",")) if options else ()
    if not set(wanted) <= {"l2norm", "gate"}:
        usage(f"--options is {options!r}; accepted: l2norm, gate, or both separated by a comma")
    if backward and (decode or device not in (Device.auto, Device.interpreter)):
        usage(
            "--backward is counted in the interpreter, for the chunkwise kernels; it takes neither --decode nor another --device"
        )
    place = prepare(Device.interpreter if device is Device.auto else device)
    compiled = place != "interpreter"

    from ....kernels.configs.launch_config import LaunchConfig
    from ....specs.problem import Problem
    from ...cases.replay import Case
    from ...cases.workload import check_problem
    from ...execution.counts import count
    from ...execution.traffic import measure
    from ...run.served_cases import served_configs
    from ...targets import load
    from ...verdicts.outcome import KernelRaised, Unsupported

    try:
        launch = None if config is None else LaunchConfig.parse(config)
        targets = [load(name, place) for name in target or [OWN]]
    except ValueError as error:
        usage(str(error))
    op = "recurrent" if decode else "chunk"
    patterns = kernel or ["*"]
    served = served_configs(place) if compiled else {}
    found: list[CallTraffic] = []
    counted: list[CallCounts] = []
    for name in rules:
        problem = Problem(
            rule=RULES[name],
            dtype=dtype,
            B=batch,
            T=1 if decode else tokens or 256,
            H=heads,
            HV=heads,
            K=channels,
            V=channels,
            initial_state=decode,
            final_state=decode,
            qk_l2norm="l2norm" in wanted,
            gate_in_kernel="gate" in wanted and RULES[name].decay != "none",
        )
        try:
            check_problem(problem)
        except ValueError as error:
            usage(str(error))
        for judged in targets:
            for one in _kernels(judged.kernels, op, patterns, problem, backward):
                best = served.get((one.name, name), {}).get(channels, ())
                case = Case(problem=problem, config=launch or (best or one.configs(problem))[0])
                with stderr.status(f"counting {one.name} on {name}"):
                    try:
                        if compiled:
                            counted.append(count(judged.name, one, case, place))
                        else:
                            for keeps in (False, True) if backward and one.keeping else (False,):
                                found.append(measure(judged.name, one, case, backward=backward, keeps=keeps))
                    except (KernelRaised, Unsupported) as error:
                        stderr.print(f"{one.name} on {name}: {error}", soft_wrap=True, markup=False)
                        raise typer.Exit(FAILED if isinstance(error, KernelRaised) else NOT_JUDGED) from None
    if not found and not counted:
        usage(
            f"nothing to count: no kernel of --kernel {', '.join(patterns)} runs on Triton, computes "
            "this op and takes these problems"
        )
    if compiled:
        from ...report import counts
        from ...report.grid import show

        show(stdout, counts.table(counted, place, launches=stages))
        stdout.print(counts.NOTE, soft_wrap=True)
    else:
        _print(found, stages, backward)
    if json_path is not None:
        calls = [call.document() for call in (counted or found)]
        write(json_path, {"schema": 1, **({"device": place} if compiled else {}), "calls": calls})


def _kernels(kernels: Any, op: str, patterns: list[str], problem: Any, backward: bool) -> list[Any]:
    return [
        kernel
        for name, kernel in kernels.items()
        if kernel.needs_triton
        and kernel.op.startswith(op)
        and (kernel.differentiable or not backward)
        and any(fnmatchcase(name, pattern) for pattern in patterns)
        and kernel.accepts(problem) is True
    ]


def _print(calls: list[CallTraffic], stages: bool, backward: bool) -> None:
    from rich.markup import escape

    from ...report.grid import grid, show

    saved = ("saved",) if backward else ()
    table = grid("rule", "kernel", "launches", "read", "written", "different", "of ideal", "requested", *saved, left=2)
    table.title = f"bytes per token and value head, forward{' and backward' if backward else ''}"
    for call in calls:
        rows = [
            (
                call.problem.rule.name,
                escape(f"{call.kernel} [{call.config}]") + ", kept" * call.keeps,
                sum(stage.launches for stage in call.stages),
                sum(stage.read for stage in call.stages),
                sum(stage.written for stage in call.stages),
                call.unique,
                f"{call.ratio:.2f}",
                call.requested,
                *([call.saved] if backward else []),
            )
        ]
        if stages:
            rows += [
                (
                    "",
                    f"  {stage.stage}",
                    stage.launches,
                    stage.read,
                    stage.written,
                    stage.unique,
                    "",
                    stage.requested,
                    *([""] if backward else []),
                )
                for stage in call.stages
            ]
        for row in rows:
            table.add_row(*(f"{cell:,.0f}" if isinstance(cell, float) else str(cell) for cell in row))
    show(stdout, table)
    ideals = dict.fromkeys((call.problem.rule.name, f"{call.ideal:,.0f}") for call in calls)
    passes = " in each pass" if backward else ""
    stdout.print(
        f"ideal, every input once in{passes} and every output once out: " + ", ".join(f"{r} {b}" for r, b in ideals)
    )
    if backward:
        stdout.print(SAVED, soft_wrap=True)
