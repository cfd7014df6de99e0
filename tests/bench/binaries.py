"""What the compiler makes of our kernels and of flash-linear-attention's, for GPUs that need not be there.

Forward and decoding, bf16, K = V = 128: registers and stack (spills) per thread, shared memory per program, tensor-core
instructions. Of a peer's kernel that is tuned, every configuration that it offers is compiled, and the one with the least
stack, then the fewest registers, stands for it. Writes binaries.json and binaries.md.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

RULES = ("gdn2", "kda", "gdn")
GPUS = {"sm_90": ("NVIDIA H100", 132, 232448), "sm_100": ("NVIDIA B200", 148, 232448)}
"""Architecture -> what a peer is told of the device: name, multiprocessors, shared memory of a program."""
DIM = 128

Row = dict[str, Any]


def ours(rule: str, arch: str) -> list[Row]:
    """Our kernels at their default configurations."""
    from deltaproof.kernels import LaunchConfig
    from deltaproof.kernels.decoding import TILE
    from deltaproof.kernels.launches.record import VARIANTS, decode_launches, inference_launches, op_launches
    from deltaproof.specs.rule import RULES as ALL

    config, known = LaunchConfig(), ALL[rule]
    found = [
        *(("split", launch) for launch in op_launches("chunk_fwd", known, "bf16", DIM, DIM, config)),
        *(
            (variant, launch)
            for variant in VARIANTS
            for launch in inference_launches(variant, known, "bf16", DIM, DIM, config, normalise=True, packed=False)
        ),
        *(("decode", launch) for launch in decode_launches(known, "bf16", DIM, DIM, TILE)),
        *(("decode v_first", launch) for launch in decode_launches(known, "bf16", DIM, DIM, TILE, v_first=True)),
    ]
    return [_row("deltaproof", variant, rule, arch, launch.name, [launch]) for variant, launch in found]


def peers(rule: str, arch: str) -> list[Row]:
    """The peer's kernels of the same calls. Raises ImportError where it is not installed."""
    from deltaproof.verify.compile import fake_device

    name, count, shared = GPUS[arch]
    fake_device.install((arch, name, count, shared))
    from importlib import import_module

    import torch

    from deltaproof.autotune.fla import calls
    from deltaproof.verify.targets.tuners import launches_noted

    call = calls.FlaCall(rule=rule, dtype="bf16", size=DIM)
    calls.make = _forward  # the tuned kernels of the forward pass alone
    rows = [_row("fla", "chunk", rule, arch, site.kernel, list(site.launches.values())) for site in calls.sites(call)]
    noted: list[Any] = []
    module, chunk = calls.OPS[rule]
    step = getattr(import_module(module), chunk.replace("chunk", "fused_recurrent"))
    states = torch.empty(8, 16, DIM, DIM, device="meta")
    with launches_noted(noted.append):
        step(**_inputs(rule, 8, 1), initial_state=states, output_final_state=True, use_qk_l2norm_in_kernel=True)
    return rows + [_row("fla", "decode", rule, arch, launch.name, [launch]) for launch in noted]


def _inputs(rule: str, B: int, T: int) -> dict[str, Any]:
    import torch

    def tensor(*channels: int, kind: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(B, T, 16, *channels, device="meta", dtype=kind)

    width = () if rule == "gdn" else (DIM,)
    gates = {"b": tensor(DIM), "w": tensor(DIM)} if rule == "gdn2" else {"beta": tensor()}
    return {"q": tensor(DIM), "k": tensor(DIM), "v": tensor(DIM), "g": tensor(*width, kind=torch.float32)} | gates


def _forward(call: Any) -> None:
    from importlib import import_module

    import torch

    from deltaproof.autotune.fla.calls import OPS

    module, name = OPS[call.rule]
    with torch.no_grad():
        getattr(import_module(module), name)(
            **_inputs(call.rule, call.batch, call.tokens), use_qk_l2norm_in_kernel=True
        )


def _row(who: str, variant: str, rule: str, arch: str, kernel: str, launches: list[Any]) -> Row:
    from triton.backends.compiler import GPUTarget

    from deltaproof.kernels.launches.compile import compile_launch

    binaries, refused = [], 0
    for launch in launches:
        try:
            binaries.append((launch, compile_launch(launch, GPUTarget("cuda", int(arch.removeprefix("sm_")), 32))))
        except Exception:  # a configuration that the compiler refuses is one fewer to choose from
            refused += 1
    row: Row = {"who": who, "variant": variant, "rule": rule, "arch": arch, "kernel": kernel}
    row |= {"configurations": len(launches), "refused": refused}
    if binaries:
        launch, binary = min(binaries, key=lambda pair: (pair[1].stack, pair[1].registers))
        row |= {"registers": binary.registers, "stack": binary.stack, "shared": binary.shared}
        row |= {"num_warps": launch.options.get("num_warps", 4), "tensor_core": binary.tensor_core}
        row["most_stack"] = max(binary.stack for _, binary in binaries)
    return row


def _joined(path: Path, rows: list[Row]) -> list[Row]:
    """What was found before and not again, by whose it is, rule and architecture; and what was found now."""

    def cell(row: Row) -> tuple[str, ...]:
        return row["arch"], row["rule"], row["who"]

    known = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {cell(row) for row in rows}
    order = {arch: place for place, arch in enumerate(GPUS)}
    everything = [row for row in known if cell(row) not in new] + rows
    return sorted(
        everything, key=lambda row: (order[row["arch"]], RULES.index(row["rule"]), row["who"] != "deltaproof")
    )


def table(rows: list[Row]) -> str:
    """Markdown, by rule and architecture."""
    import triton

    lines = [
        f"Compiled by Triton {triton.__version__}, bf16, K = V = {DIM}; nothing here was run. Stack and registers per thread,",
        "shared memory per program. Of tuned kernels, the configuration with the least stack of all that are offered.",
    ]
    for arch in dict.fromkeys(row["arch"] for row in rows):
        for rule in dict.fromkeys(row["rule"] for row in rows):
            lines += ["", f"## {rule}, {arch}", ""]
            lines += ["| kernel | warps | registers | stack, bytes | shared, KiB | tensor cores | configurations |"]
            lines += ["|---|---:|---:|---:|---:|---|---:|"]
            for row in rows:
                if (row["rule"], row["arch"]) != (rule, arch):
                    continue
                name = f"{row['who']}/{row['variant']}: {row['kernel']}"
                if "stack" not in row:
                    lines.append(f"| {name} | - | - | - | - | refused | {row['configurations']} |")
                    continue
                cores = ", ".join(f"{count} {family}" for family, count in row["tensor_core"].items()) or "-"
                lines.append(
                    f"| {name} | {row['num_warps']} | {row['registers']} | {row['stack']} | {row['shared'] / 1024:.1f} "
                    f"| {cores} | {row['configurations']} |"
                )
    return "\n".join(lines) + "\n"


def main(
    arch: Annotated[list[str] | None, typer.Option("--arch", help="sm_90 and sm_100 by default.")] = None,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="gdn2, kda and gdn by default.")] = None,
    peer: Annotated[
        bool, typer.Option("--peer/--no-peer", help="Compile flash-linear-attention's kernels, too.")
    ] = True,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results/bench"),
) -> None:
    """Compile, and write what was found."""
    for name, there, known in (("--arch", arch, GPUS), ("--rule", rule, RULES)):
        for value in there or ():
            if value not in known:
                print(f"binaries: {name} is {value!r}; accepted: {', '.join(known)}", file=sys.stderr)
                raise typer.Exit(2)
    os.environ.pop("TRITON_INTERPRET", None)
    makers = [ours, *([peers] if peer else [])]
    cells = [(make, name, target) for target in arch or GPUS for name in rule or RULES for make in makers]
    rows: list[Row] = []
    # A process each: one pretends to have one GPU.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = [(make, pool.submit(make, name, target)) for make, name, target in cells]
        for index, (make, future) in enumerate(futures, 1):
            try:
                rows += future.result()
            except ImportError as error:
                if make is ours:
                    raise
                print(f"the peer's kernels are left out: {error}", file=sys.stderr)
            print(f"[{index}/{len(cells)}]", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    rows = _joined(out / "binaries.json", rows)
    (out / "binaries.json").write_text(json.dumps({"schema": 1, "rows": rows}, indent=1) + "\n")
    (out / "binaries.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
