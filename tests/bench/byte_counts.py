"""Count bytes for the published table: ours and a peer's, forward and decoding. Writes bytes*.json and bytes.md."""

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
    "bytes_decode": ("one token for each of four sequences, with fp32 states", ("--decode", "--batch", "4")),
}
KERNELS = {
    False: ("chunk_fwd/*", "chunk_train/staged", "chunk_gdn2", "chunk_kda", "chunk_gated_delta_rule", "*/safe_gate"),
    True: ("recurrent/*", "fused_recurrent_gdn2", "fused_recurrent_kda", "fused_recurrent_gated_delta_rule"),
}


def table(calls: list[dict[str, Any]]) -> list[str]:
    """Markdown rows of one run."""
    lines = ["| rule | kernel | launches | read | written | different | of ideal | requested |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for call in calls:
        stages = call["stages"]
        launches, read, written = (sum(stage[name] for stage in stages) for name in ("launches", "read", "written"))
        rule, name = call["problem"].split(":")[0], f"{call['target']}: {call['kernel']}"
        lines.append(
            f"| {rule} | {name} | {launches} | {read:,.0f} | {written:,.0f} | {call['unique']:,.0f} | {call['ratio']:.2f} "
            f"| {call['requested']:,.0f} |"
        )
    return lines


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
    ]
    for name, (title, options) in RUNS.items():
        path = out / f"{name}.json"
        command = [sys.executable, "-m", "deltaproof.verify", "bytes", "--heads", "2", "--json", str(path), *options]
        command += ["--target", "deltaproof", *(["--target", "fla"] if peer else [])]
        command += [word for kernel in KERNELS["--decode" in options] for word in ("--kernel", kernel)]
        code = subprocess.run(command, check=False).returncode
        if code:
            raise typer.Exit(code)
        lines += ["", f"## {title}", "", *table(json.loads(path.read_text())["calls"])]
    (out / "bytes.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
