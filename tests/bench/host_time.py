"""What the host spends before the device has work: microseconds per call of each public op, with every launch left out.

Ours beside flash-linear-attention's in one run. Tensors lie on the CPU and are taken for a GPU's: the host walks the path that
it walks there, contents unchecked, up to `kernel[grid](...)`. The launcher behind it, which both share, does nothing (of a
peer's kernel that is tuned, neither does the tuner's choice). What torch does between launches is small and is counted. Our
look-up of a configuration is told that the device is an H100. Processor time of one thread, contestants in turns, a sample
the mean of many calls. Writes host_time.json and host_time.md.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from contestants import versions
from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.jit import JITFunction

from deltaproof.kernels import chunk_indices, decode, gated_delta_rule
from deltaproof.kernels.ops import dispatch, operator

RULES = ("gdn2", "kda", "gdn")
DIM, HEADS, TOKENS, SEQUENCES = 128, 4, 128, 4
OURS, PEER = "deltaproof", "fla"

Call = Callable[[], object]
Row = dict[str, Any]


@contextmanager
def stubbed() -> Iterator[list[str]]:
    """Inside, launches do nothing but leave the name of their kernel in the list."""
    made: list[str] = []

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        while not isinstance(self, JITFunction):
            self = self.fn
        made.append(self.__name__)

    with ExitStack() as stack:
        for kind in (JITFunction, Autotuner, Heuristics):
            stack.enter_context(mock.patch.object(kind, "run", run))
        # Functions, not mocks: these are called in what is timed.
        stack.enter_context(mock.patch.object(operator, "runs_triton", new=_yes))
        stack.enter_context(mock.patch.object(dispatch, "can_look_up", new=_yes))
        stack.enter_context(mock.patch.object(dispatch, "_gpu", new=_h100))
        yield made


def _yes(tensor: torch.Tensor) -> bool:
    return True


def _h100(device: torch.device) -> str:
    return "h100-sxm"


def inputs(rule: str, B: int, T: int, *, grad: bool = False) -> dict[str, Any]:
    """q, k, v, g, b, w as a rule has them, bf16 but for fp32 decays."""

    def tensor(*channels: int, kind: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(B, T, HEADS, *channels, dtype=kind, requires_grad=grad)

    made = {"q": tensor(DIM), "k": tensor(DIM), "v": tensor(DIM)}
    made["g"] = tensor(*(() if rule == "gdn" else (DIM,)), kind=torch.float32)
    made["b"] = tensor(*((DIM,) if rule == "gdn2" else ()))
    return made | ({"w": tensor(DIM)} if rule == "gdn2" else {})


def ours(rule: str) -> dict[str, Call]:
    """Calls of our public ops."""
    states = torch.empty(SEQUENCES, HEADS, DIM, DIM)
    slots = torch.empty(SEQUENCES, dtype=torch.int32)
    step, prompt, leaves = inputs(rule, SEQUENCES, 1), inputs(rule, 1, TOKENS), inputs(rule, 1, TOKENS, grad=True)
    short = inputs(rule, SEQUENCES, 8)
    boundaries = torch.arange(9) * (TOKENS // 8)
    tables = chunk_indices(boundaries, TOKENS)
    raw = {"A_log": torch.empty(HEADS)}
    raw["dt_bias"] = torch.empty(HEADS * (1 if rule == "gdn" else DIM))
    normed = {"use_qk_l2norm_in_kernel": True}
    run, step_of = (partial(function, check_values=False) for function in (gated_delta_rule, decode))
    packed = {"cu_seqlens": boundaries, "chunk_indices": tables}
    gradient = torch.empty(1, TOKENS, HEADS, DIM, dtype=torch.bfloat16)

    def train() -> None:
        o, _ = run(**leaves, variant="staged")
        torch.autograd.grad(o, list(leaves.values()), gradient)

    return {
        "decode": partial(step_of, **step, states=states, **normed),
        "decode, slots": partial(step_of, **step, states=states, slots=slots, **normed),
        "decode, slots, raw gate": partial(
            step_of, **step, states=states, slots=slots, **normed, **raw, use_gate_in_kernel=True
        ),
        "tokens": partial(run, **short, variant="tokens", initial_state=states, output_final_state=True),
        "fused": partial(run, **prompt, variant="fused", **normed),
        "packed": partial(run, **prompt, variant="packed", **normed),
        "packed, sequences": partial(run, **prompt, variant="packed", **normed, **packed),
        "split": partial(run, **prompt, variant="split", **normed),
        "split, sequences": partial(run, **prompt, variant="split", **normed, **packed),
        "staged, forward": partial(run, **leaves, variant="staged"),
        "staged, forward and backward": train,
    }


MODULES = {"gdn2": ("gdn2", "gdn2"), "kda": ("kda", "kda"), "gdn": ("gated_delta_rule", "gated_delta_rule")}
"""Rule -> module of fla.ops, and the end of its functions' names."""


def peers(rule: str) -> dict[str, Call]:
    """Calls of the peer's functions. Raises ImportError where it is not installed."""
    module, name = MODULES[rule]
    module = importlib.import_module(f"fla.ops.{module}")
    step_of, chunk_of = getattr(module, f"fused_recurrent_{name}"), getattr(module, f"chunk_{name}")

    def renamed(made: dict[str, Any]) -> dict[str, Any]:
        return made if rule == "gdn2" else {"beta" if x == "b" else x: tensor for x, tensor in made.items()}

    states = torch.empty(SEQUENCES, HEADS, DIM, DIM)
    step, prompt = renamed(inputs(rule, SEQUENCES, 1)), renamed(inputs(rule, 1, TOKENS))
    leaves = renamed(inputs(rule, 1, TOKENS, grad=True))
    gradient = torch.empty(1, TOKENS, HEADS, DIM, dtype=torch.bfloat16)
    normed = {"use_qk_l2norm_in_kernel": True}

    def train() -> None:
        o, *_ = chunk_of(**leaves, **normed)
        torch.autograd.grad(o, list(leaves.values()), gradient)

    def forward() -> None:
        with torch.no_grad():
            chunk_of(**prompt, **normed)

    def recurrent() -> None:
        with torch.no_grad():
            step_of(**step, initial_state=states, output_final_state=True, **normed)

    return {
        "fused_recurrent": recurrent,
        "chunk, forward": forward,
        "chunk, forward and backward": train,
    }


def measured(calls: dict[tuple[str, str], Call], rounds: int, seconds: float) -> dict[tuple[str, str], list[float]]:
    """Samples in microseconds of each call, in turns."""
    counts, samples = {}, {name: [] for name in calls}
    for name, call in calls.items():
        for _ in range(5):
            call()
        begun = time.process_time()
        for _ in range(20):
            call()
        counts[name] = max(5, int(seconds / max((time.process_time() - begun) / 20, 1e-6)))
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.process_time()
            for _ in range(counts[name]):
                call()
            samples[name].append((time.process_time() - begun) / counts[name] * 1e6)
    return samples


def rows_of(rule: str, rounds: int, seconds: float, peer: bool) -> list[Row]:
    """One row per op, ours and the peer's."""
    calls = {(OURS, name): call for name, call in ours(rule).items()}
    if peer:
        calls |= {(PEER, name): call for name, call in peers(rule).items()}
    rows = []
    with stubbed() as made:
        launches = {}
        for name, call in list(calls.items()):
            made.clear()
            try:
                call()
            except Exception as error:  # a peer that cannot run on tensors without contents is left out, and it is said
                if name[0] == OURS:
                    raise
                rows.append({"who": name[0], "op": name[1], "rule": rule, "unable": f"{type(error).__name__}: {error}"})
                del calls[name]
                continue
            launches[name] = list(made)
        for name, samples in measured(calls, rounds, seconds).items():
            row = {"who": name[0], "op": name[1], "rule": rule, "kernels": launches[name]}
            rows.append(row | {"microseconds": [round(x, 2) for x in samples]})
    return rows


def table(report: dict[str, Any]) -> str:
    """Markdown: medians by op and rule, and how many kernels of Triton each call launches."""
    rows = report["rows"]
    lines = [
        f"Host microseconds per call, launches left out: median of {report['rounds']} samples, the least in brackets.",
        f"{report['processor']}, Python {report['python']}, torch {report['torch']}, Triton {report['triton']}, "
        f"fla-core {report['fla-core']}. bf16, K = V = {DIM}, {HEADS} heads;",
        f"decode: {SEQUENCES} sequences, one token each; the others: {TOKENS} tokens (`tokens`: {SEQUENCES} times 8).",
        "",
        "| op | " + " | ".join(f"{rule} | launches" for rule in RULES) + " |",
        "|---|" + "---:|---:|" * len(RULES),
    ]
    for who, op in dict.fromkeys((row["who"], row["op"]) for row in rows):
        cells = []
        for rule in RULES:
            row = next((r for r in rows if (r["who"], r["op"], r["rule"]) == (who, op, rule)), None)
            if row is None or "unable" in row:
                cells += ["-", "-"]
                continue
            samples = row["microseconds"]
            cells += [f"{statistics.median(samples):.0f} ({min(samples):.0f})", str(len(row["kernels"]))]
        lines.append(f"| {who}: {op} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    rule: Annotated[list[str] | None, typer.Option("--rule", help="gdn2, kda and gdn by default.")] = None,
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Time flash-linear-attention's calls, too.")] = True,
    rounds: Annotated[int, typer.Option(min=1, help="Samples of each call.")] = 15,
    seconds: Annotated[float, typer.Option(min=0.001, help="Processor time of a sample.")] = 0.02,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results/bench/host"),
) -> None:
    """Measure, and write what was found."""
    for value in rule or ():
        if value not in RULES:
            raise typer.BadParameter(f"{value!r}; accepted: {', '.join(RULES)}", param_hint="--rule")
    torch.set_num_threads(1)
    rows = [row for name in rule or RULES for row in rows_of(name, rounds, seconds, peer)]
    report = {"schema": 1, "rounds": rounds, "processor": platform.processor() or platform.machine()}
    report |= {"python": platform.python_version(), **versions(), "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "host_time.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "host_time.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    typer.run(main)
