"""Errors along a sequence of 65,536 tokens, and over 10,000 steps of decoding, beside fp64. Writes growth.json and growth.md.

Ends with 1 where the error of a kernel grows along the sequence more than that of plain torch does, which computes in fp32.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

WINDOWS = (0, 1024, 8192, 32768, 65536)
DECODED = (0, 100, 1000, 5000, 10000)
RULES = ("gdn2", "kda", "gdn", "delta_rule", "gla", "mamba2", "linear")
REGIMES = ("ordinary", "no_decay")
K = V = 16
MOST = 2.0
"""Times the growth of plain torch that is noise: the windows of a run differ by a few per cent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Errors of one call. windows: boundaries, in tokens. ours, torch: in each, root mean square over that of the outputs."""

    kernel: str
    rule: str
    regime: str
    windows: tuple[int, ...]
    ours: tuple[float, ...]
    torch: tuple[float, ...]

    @property
    def grows(self) -> bool:
        """Whether ours grows, from the first window to the last, where plain torch does not."""
        return not self.ours[-1] <= MOST * max(1.0, self.torch[-1] / self.torch[0]) * self.ours[0]


def main(
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results/bench"),
    rule: Annotated[list[str] | None, typer.Option(help="Only these rules; may be repeated.")] = None,
) -> None:
    """Run, and write."""
    os.environ.setdefault("TRITON_INTERPRET", "1")
    runs = []
    for run in _runs(rule or RULES):
        runs.append(run)
        print(" ".join(_cells(run)), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    (out / "growth.md").write_text("\n".join(_page(runs)) + "\n")
    if grown := [f"{run.kernel} on {run.rule}, {run.regime}" for run in runs if run.grows]:
        sys.exit(f"the error grows along the sequence: {'; '.join(grown)}")


def _runs(rules: Any) -> Iterator[Run]:
    from deltaproof.kernels import KERNELS
    from deltaproof.specs.inputs.regimes import REGIMES as KNOWN
    from deltaproof.specs.problem import Problem
    from deltaproof.specs.rule import RULES as NAMED

    for name in rules:
        for regime in REGIMES:
            if not KNOWN[regime].applies(NAMED[name]):
                continue
            problem = Problem(rule=NAMED[name], dtype="bf16", T=WINDOWS[-1], K=K, V=V, regime=regime, seed=1)
            yield _measured(KERNELS["chunk_fwd/packed"], problem, WINDOWS)
            short = Problem(rule=NAMED[name], dtype="bf16", T=DECODED[-1], K=K, V=V, regime=regime, seed=1)
            yield _measured(KERNELS["recurrent/pool"], short, DECODED)


def _measured(kernel: Any, problem: Any, windows: tuple[int, ...]) -> Run:
    """A kernel and plain torch on the same inputs. What decodes gets one token a call."""
    from deltaproof.kernels import gated_delta_rule
    from deltaproof.specs.inputs.make import generate
    from deltaproof.specs.oracle.recurrence import respond
    from deltaproof.verify.execution import execute
    from deltaproof.verify.interpreter import session

    inputs = generate(problem)
    truth = respond(problem, inputs)["o"]
    made = {name: x for name, x in execute.tensors(problem, inputs).items() if name not in ("do", "dht")}
    call: dict[str, Any] = {("initial_state" if name == "h0" else name): x for name, x in made.items()}
    plain = gated_delta_rule(**call, variant="torch")[0]
    with session():
        o = _decoded(call, problem.T) if kernel.op == "recurrent" else kernel.run(**call)[0]
    errors = [
        tuple(_relative(x[:, first:last], truth[:, first:last]) for first, last in pairwise(windows))
        for x in (o.double().numpy(), plain.double().numpy())
    ]
    return Run(
        kernel=kernel.name,
        rule=problem.rule.name,
        regime=problem.regime,
        windows=windows,
        ours=errors[0],
        torch=errors[1],
    )


def _decoded(call: dict[str, Any], steps: int) -> Any:
    import torch

    from deltaproof.kernels import decode

    states = call["initial_state"].clone()
    tokens = {name: x for name, x in call.items() if name != "initial_state"}
    rows = [
        decode(**{name: x[:, t : t + 1] for name, x in tokens.items()}, states=states, check_values=False)
        for t in range(steps)
    ]
    return torch.cat(rows, 1)


def _relative(x: Any, truth: Any) -> float:
    import numpy as np

    return float(np.sqrt(np.mean((x - truth) ** 2) / np.mean(truth**2)))


def _cells(run: Run) -> list[str]:
    return [run.kernel, run.rule, run.regime, *(f"{a:.1e} ({b:.1e})" for a, b in zip(run.ours, run.torch, strict=True))]


def _page(runs: list[Run]) -> list[str]:
    lines = [
        f"Errors in bf16 (K = V = {K}, one head) beside the token recurrence in fp64: the root mean square over that of the",
        "outputs, in windows of tokens. In brackets plain torch, which computes in fp32 and rounds its outputs to bf16. The",
        "kernels round as a GPU does, in the interpreter. Decoding is one call a token.",
    ]
    for windows in (WINDOWS, DECODED):
        some = [run for run in runs if run.windows == windows]
        spans = [f"{first:,} to {last:,}" for first, last in pairwise(windows)]
        lines += ["", f"| kernel | rule | regime | {' | '.join(spans)} |", f"|---|---|---|{'---:|' * len(spans)}"]
        lines += [f"| {' | '.join(_cells(run))} |" for run in some]
    return lines


if __name__ == "__main__":
    typer.run(main)
