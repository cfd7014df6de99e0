"""Count bytes for the published table: ours and a peer's, forward and decoding. Writes bytes*.json and bytes.md, and for what
compiled programs do, counts.json and counts.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

RUNS = {
    "bytes": ("forward, 256 tokens, queries and keys given normalised", ()),
    "bytes_l2norm": ("forward, 256 tokens, with the L2 norm of queries and keys", ("--options", "l2norm")),
    "bytes_backward": (
        "forward and backward, 256 tokens, ideal: every input once in, in each of the two",
        ("--backward",),
    ),
    "bytes_decode": ("one token for each of four sequences, with fp32 states", ("--decode", "--batch", "4")),
}
KERNELS = {
    False: ("chunk_fwd/*", "chunk_train/staged", "chunk_gdn2", "chunk_kda", "chunk_gated_delta_rule", "*/safe_gate"),
    True: ("recurrent/*", "fused_recurrent_gdn2", "fused_recurrent_kda", "fused_recurrent_gated_delta_rule"),
}


COMPILED = "sm_90"
COMPILED_KERNELS = ("chunk_fwd/packed", "chunk_fwd/fused", "chunk_gdn2", "chunk_kda", "chunk_gated_delta_rule")


def table(calls: list[dict[str, Any]]) -> list[str]:
    """Markdown rows of one run."""
    saved = "saved" in calls[0]
    lines = ["| rule | kernel | launches | read | written | different | of ideal | requested |" + " saved |" * saved]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|" + "---:|" * saved)
    for call in calls:
        stages = call["stages"]
        launches, read, written = (sum(stage[name] for stage in stages) for name in ("launches", "read", "written"))
        rule, name = call["problem"].split(":")[0], f"{call['target']}: {call['kernel']}"
        name += ", kept" * call.get("keeps", False)
        lines.append(
            f"| {rule} | {name} | {launches} | {read:,.0f} | {written:,.0f} | {call['unique']:,.0f} | {call['ratio']:.2f} "
            f"| {call['requested']:,.0f} |" + (f" {call['saved']:,.0f} |" if saved else "")
        )
    return lines


def compiled_table(calls: list[dict[str, Any]]) -> list[str]:
    """Markdown rows of one run of compiled programs: each call, and under it its launches."""
    lines = ["| rule | kernel | moved | used | wavefronts | of ideal | products | trips |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for call in calls:
        rule, rows = call["problem"].split(":")[0], call["rows"]

        def figures(launches: list[dict[str, Any]], rows: int = rows) -> str:
            names = ("bytes_moved", "bytes_used", "wavefronts", "wavefronts_ideal", "products")
            moved, used, passes, ideal, products = (sum(one[name] for one in launches) for name in names)
            over = f"{passes / ideal:.2f}" if ideal else "-"
            return f"{moved / rows:,.0f} | {used / moved:.0%} | {passes / rows:,.1f} | {over} | {products / rows:,.0f}"

        lines.append(
            f"| {rule} | {call['target']}: {call['kernel']} `{call['config']}` | {figures(call['launches'])} | |"
        )
        for launch in call["launches"]:
            trips = ", ".join(f"{loop['trips']:g}" for loop in launch["loops"])
            lines.append(f"| | {launch['kernel']} | {figures([launch])} | {trips} |")
    return lines


def count_compiled(peer: bool, out: Path) -> None:
    """Write counts.json and counts.md. Ends the process with the command's code where it fails."""
    path = out / "counts.json"
    _count(path, peer, COMPILED_KERNELS, "--device", COMPILED)
    lines = [
        f"Counted while the programs that Triton makes for {COMPILED} run on a CPU, per token and value head: bf16, K = V",
        "= 128, two heads, 256 tokens. Moved are the bytes of the sectors (32 bytes) of global memory that each access of",
        "a warp touches; used is the share of them that it asks for. Wavefronts are passes over the banks of shared",
        "memory, those of products aside; ideal is what as many bytes need. Products are multiply-adds of tensor cores.",
        "Trips are those of each loop of a launch, for a warp of a program on average. What torch does between kernels is",
        "not counted.",
        "",
        *compiled_table(json.loads(path.read_text())["calls"]),
    ]
    (out / "counts.md").write_text("\n".join(lines) + "\n")


def _count(path: Path, peer: bool, kernels: tuple[str, ...], *options: str) -> None:
    command = [sys.executable, "-m", "deltaproof.verify", "bytes", "--heads", "2", "--json", str(path), *options]
    command += ["--target", "deltaproof", *(["--target", "fla"] if peer else [])]
    command += [word for kernel in kernels for word in ("--kernel", kernel)]
    if code := subprocess.run(command, check=False).returncode:
        raise typer.Exit(code)


def main(
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Count flash-linear-attention's kernels, too.")] = True,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results/bench"),
) -> None:
    """Count, and write."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        "Counted in the interpreter from the addresses that kernels touch: bytes per token and value head, bf16, K = V = 128,",
        "two heads. Different bytes count once per launch and are summed over launches, torch's own between kernels included;",
        "requested ones are those of every load and store of every program. Ideal: every input once in, every output once out.",
        "Saved ones lie in memory between the two passes, inputs included; kept: with what the backward pass would else compute",
        "again (`disable_recompute=True`).",
    ]
    for name, (title, options) in RUNS.items():
        path = out / f"{name}.json"
        _count(path, peer, KERNELS["--decode" in options], *options)
        lines += ["", f"## {title}", "", *table(json.loads(path.read_text())["calls"])]
    (out / "bytes.md").write_text("\n".join(lines) + "\n")
    count_compiled(peer, out)


if __name__ == "__main__":
    typer.run(main)
