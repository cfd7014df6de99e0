"""What our kernels and flash-linear-attention's issue per token and value head, counted in machine code for a GPU not there.

bf16, K = V = 128; a forward pass is normalised in the kernel, and its sequences have one length. The serial loop of a walk runs
once per chunk; of the other loops it is assumed that one runs once per tile of K, and ours have their trips by name. Of a
peer's kernel that is tuned, some configurations are compiled, evenly drawn from what it offers, and the one that issues least
stands for it. Writes instructions.json and instructions.md.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

RULES = ("gdn2", "kda", "gdn")
DIM = 128
FORWARD = (
    "c32,variant=packed,scores=64x2x1,states=64x4x2",
    "c32,variant=packed,scores=32x1x1,states=64x4x2",
    "c64,variant=packed,scores=128x8x1,states=32x4x2",
    "c64,variant=packed,scores=128x8x1,states=64x4x2",
)
TRAINING = (
    "c32,scores=64x2x1,states=32x4x2,output=64x2x1,score_grads=32x2x1,state_grads=32x4x1,input_grads=32x2x1",
    "c16,scores=64x1x1,states=32x4x2,output=64x1x1,score_grads=32x1x1,state_grads=32x4x1,input_grads=32x1x1",
)
"""Ours: first what is served where nothing is tuned."""
SERIAL = ("packed_walk", "states_kernel", "state_grads_kernel", "fused_kernel", "fwd_kernel_h")
"""Parts of the names of kernels whose longest loop goes over the chunks."""

Row = dict[str, Any]


def ours(rule: str, arch: str, configurations: int) -> list[Row]:
    """Our forward pass and our training, under each of the configurations named above."""
    return [row for op in ("chunk_fwd", "chunk_train") for token in _tokens(op) for row in count(op, rule, arch, token)]


def _tokens(op: str) -> tuple[str, ...]:
    return FORWARD if op == "chunk_fwd" else TRAINING


def count(op: str, rule: str, arch: str, token: str) -> list[Row]:
    """A row for each launch of a call under a configuration: inference normalises in the kernel, training before it."""
    from deltaproof.kernels.configs.launch_config import LaunchConfig
    from deltaproof.kernels.launches.record import RECORDED, inference_launches, op_launches
    from deltaproof.specs.rule import RULES as ALL

    config, known = LaunchConfig.parse(token), ALL[rule]
    if op == "chunk_train":
        launches = op_launches("chunk_train", known, "bf16", DIM, DIM, config)
    else:
        launches = inference_launches(
            config.variant, known, "bf16", DIM, DIM, config, normalise=True, states=False, packed=False
        )
    cells = RECORDED.tokens * RECORDED.heads
    variant = token if op == "chunk_fwd" else f"training {token}"
    return [_row("deltaproof", variant, rule, arch, launch.name, [launch], cells) for launch in launches]


def peers(rule: str, arch: str, configurations: int) -> list[Row]:
    """The peer's kernels of the same call. Raises ImportError where it is not installed."""
    from deltaproof.verify.compile import fake_device as pretend

    pretend.install((arch, "NVIDIA H100", 132, 232448))
    from deltaproof.autotune.fla import calls

    call = calls.FlaCall(rule=rule, dtype="bf16", size=DIM)
    calls.make = _forward
    rows = []
    for site in calls.sites(call):
        launches = list(site.launches.values())
        drawn = launches[:: max(1, len(launches) // configurations)][:configurations]
        rows.append(_row("fla", "chunk", rule, arch, site.kernel, drawn, call.batch * call.tokens * 16))
    return rows


def _forward(call: Any) -> None:
    from binaries import _forward as forward  # the same call, of the script beside this one

    forward(call)


def _row(who: str, variant: str, rule: str, arch: str, kernel: str, launches: list[Any], cells: int) -> Row:
    from triton.backends.compiler import GPUTarget

    from deltaproof.kernels.launches.compile import compile_launch

    row: Row = {"who": who, "variant": variant, "rule": rule, "arch": arch, "kernel": kernel}
    found = []
    for launch in launches:
        try:
            binary = compile_launch(launch, GPUTarget("cuda", int(arch.removeprefix("sm_")), 32))
        except Exception:  # a configuration that the compiler refuses is one fewer to choose from
            continue
        found.append(_counts(kernel, launch, binary, cells))
    row |= {"configurations": len(launches), "refused": len(launches) - len(found)}
    return row | (min(found, key=lambda one: one["per_token_head"]) if found else {})


def _counts(kernel: str, launch: Any, binary: Any, cells: int) -> Row:
    from deltaproof.kernels.launches import instructions

    program = instructions.read(binary.code)
    warps = launch.options.get("num_warps", 4)
    programs = 1
    for size in launch.grid:
        programs *= size
    trips = _trips(kernel, launch, program, programs, cells)
    issued = program.issued(trips)
    row: Row = {
        "warps": warps,
        "programs": programs,
        "registers": binary.registers,
        "stack": binary.stack,
        "shared": binary.shared,
        "buffers": program.buffers,
        "static": program.static,
        "loops": [[loop.depth, sum(loop.own.values()), trips(loop)] for loop in program.loops],
        "issued": dict(issued.most_common()),
        "per_token_head": sum(issued.values()) * warps * programs / cells,
    }
    if any(part in kernel for part in SERIAL) and program.serial is not None:
        row["step_per_scheduler"] = sum(program.step(program.serial, trips).values()) * warps / 4
    return row


def _trips(kernel: str, launch: Any, program: Any, programs: int, cells: int) -> Callable[[Any], int]:
    known = launch.arguments
    tiles = -(-DIM // known.get("BK", DIM))
    chunk = known.get("C") or known.get("BT") or 64
    serial = program.serial if any(part in kernel for part in SERIAL) else None
    # A walk has a program per sequence, head and block of V.
    blocks = -(-DIM // known["BV"]) if "BV" in known else 1
    chunks = max(1, cells * blocks // max(1, programs) // chunk)

    def trips(loop: Any) -> int:
        if serial is not None and loop is serial:
            return chunks
        if kernel in ("score_grads_kernel", "input_grads_kernel"):
            return blocks
        return tiles

    return trips


def table(rows: list[Row]) -> str:
    """Markdown, by rule and architecture."""
    lines = [
        f"Counted in what Triton {triton_version()} compiles, bf16, K = V = {DIM}; nothing here was run. Issued: warp",
        "instructions per token and value head. Step: of a serial loop, per chunk and scheduler (a multiprocessor has four).",
        "Buffers: copies of what that loop reads, the one in use included. Spills: bytes of stack per thread. Loops other than",
        "the serial ones are taken to run once per tile of K: of kernels that go row by row this is less than they issue,",
        "and a kernel that a call launches twice is there once, so that the peer has no sum.",
    ]
    for arch, rule in dict.fromkeys((row["arch"], row["rule"]) for row in rows):
        lines += ["", f"## {rule}, {arch}", ""]
        lines += [
            "| who | configuration | kernel | warps | registers | stack | shared, KiB | buffers | step | issued |"
        ]
        lines += ["|---|---|---|---:|---:|---:|---:|---:|---:|---:|"]
        sums: dict[tuple[str, str], float] = {}
        for row in rows:
            if (row["arch"], row["rule"]) != (arch, rule) or "issued" not in row:
                continue
            step = f"{row['step_per_scheduler']:,.0f}" if "step_per_scheduler" in row else "-"
            lines.append(
                f"| {row['who']} | {row['variant']} | {row['kernel']} | {row['warps']} | {row['registers']} | {row['stack']} "
                f"| {row['shared'] / 1024:.0f} | {row['buffers']} | {step} | {row['per_token_head']:,.0f} |"
            )
            if row["who"] == "fla":
                continue
            cell = row["who"], row["variant"]
            sums[cell] = sums.get(cell, 0.0) + row["per_token_head"]
        lines += [f"| {who} | {variant} | all | | | | | | | {total:,.0f} |" for (who, variant), total in sums.items()]
    return "\n".join(lines) + "\n"


def triton_version() -> str:
    import triton

    return triton.__version__


def main(
    arch: Annotated[str, typer.Option(help="An NVIDIA architecture.")] = "sm_90",
    rule: Annotated[list[str] | None, typer.Option("--rule", help="gdn2, kda and gdn by default.")] = None,
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Count flash-linear-attention's kernels, too.")] = True,
    configurations: Annotated[int, typer.Option(min=1, help="Of a peer's tuned kernel.")] = 4,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results/bench"),
) -> None:
    """Compile, count, and write what was found."""
    for name in rule or ():
        if name not in RULES:
            print(f"instructions: --rule is {name!r}; accepted: {', '.join(RULES)}", file=sys.stderr)
            raise typer.Exit(2)
    os.environ.pop("TRITON_INTERPRET", None)
    rows: list[Row] = []
    makers = [ours, *([peers] if peer else [])]
    # A process each: one pretends to have a GPU.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = [(make, pool.submit(make, name, arch, configurations)) for name in rule or RULES for make in makers]
        for make, future in futures:
            try:
                rows += future.result()
            except ImportError as error:
                if make is ours:
                    raise
                print(f"the peer's kernels are left out: {error}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    (out / "instructions.json").write_text(
        json.dumps({"schema": 1, "triton": triton_version(), "rows": rows}, indent=1) + "\n"
    )
    (out / "instructions.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
