"""Is what a GPU computes right? Ours against fp64, forward and with gradients, and bit by bit against its own repetitions.

Memory that a call will be given is filled with NaN first. A row per configuration goes to `checks.jsonl`. On a CPU, as a
rehearsal, it is the torch path that is checked.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import rows
import torch
from alive import LEFT, end_if_lost
from configurations import configurations
from problems import CHECKED, RULES
from shapes import Shape, Work, tensors
from stopwatch import CHECKED_HEADS

from deltaproof.kernels import LaunchConfig, gated_delta_rule
from deltaproof.results.files.one_line import told

INPUTS = ("q", "k", "v", "g", "b", "w")
NAN_BYTES = 4 << 30
WRONG = 9e9
"""Stands for an error that is not finite: rows are JSON."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="device_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", help="name of the tables whose configurations are checked")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--budget", type=float, default=0.0, help="seconds after which nothing is begun; 0 for no end")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    args = parser.parse_args()
    end = time.monotonic() + args.budget if args.budget else math.inf
    path = args.out / "checks.jsonl"
    known = {(row["op"], row["rule"], row["config"]) for row in rows.read(path)}
    small = args.device == "cpu"
    left, worst = 0, 0.0
    for op in ("forward", "train"):
        for rule in RULES:
            work = Work(op=op, rule=rule, dtype="fp32" if small else "bf16", shape=_shape(small))
            tokens = configurations(op, rule, "bf16", 128, args.gpu)[: 1 if small else None]
            tokens = [token for token in tokens if (op, rule, token) not in known]
            made, expected = None, {}
            for token in tokens:
                if time.monotonic() > end:
                    left += 1
                    continue
                if made is None:
                    made = tensors(work, "cpu" if small else "cuda")
                    expected = answer(work, made, None, heads=CHECKED_HEADS)
                row = check(work, made, token, expected, args.repeats)
                rows.add(path, op=op, rule=rule, config=token, dtype=work.dtype, shape=work.shape.token, **row)
                worst = max(worst, *(row["worst"] or {"": 0.0}).values())
                print(f"{op} {rule} {token}: {_words(row)}", flush=True)
                if row["unable"]:
                    end_if_lost(f"{op} {rule} {token}: {row['unable']}")
    print(f"worst error {worst:.1e}" + (f"; {left} are left: the same command goes on" if left else ""))
    return LEFT if left else 0


def _shape(small: bool) -> Shape:
    return Shape(B=1, T=40, H=2, D=32) if small else CHECKED


def check(
    work: Work, made: dict[str, torch.Tensor], token: str, expected: dict[str, torch.Tensor], repeats: int
) -> dict[str, Any]:
    """errors: of the first run, by output. worst: over all repetitions. equal: how many have the first one's bits."""
    began = time.monotonic()
    row: dict[str, Any] = {"errors": None, "worst": None, "equal": 0, "repeats": 0, "unable": None}
    first: dict[str, torch.Tensor] = {}
    try:
        for repeat in range(repeats):
            spoil(made["q"].device)
            found = answer(work, made, token)
            errors = {name: _error(x, expected[name]) for name, x in found.items()}
            if repeat == 0:
                first, row["errors"], row["worst"] = found, errors, dict(errors)
            row["worst"] = {name: max(row["worst"][name], error) for name, error in errors.items()}
            row["equal"] += all(torch.equal(_bits(found[name]), _bits(first[name])) for name in first)
            row["repeats"] = repeat + 1
    except Exception as error:  # compilers raise anything
        row["unable"] = told(error)
    return row | {"seconds": round(time.monotonic() - began, 2)}


def answer(
    work: Work, made: dict[str, torch.Tensor], token: str | None, heads: int | None = None
) -> dict[str, torch.Tensor]:
    """Outputs, and for training gradients; without a token in fp64, of the first heads alone, by plain torch."""
    given = {name: made[name][:, :, :heads] for name in INPUTS if name in made}
    do = made["do"][:, :, :heads]
    if token is None:
        given, do = {name: x.double() for name, x in given.items()}, do.double()
        options: dict[str, Any] = {"variant": "torch"}
    else:
        config = LaunchConfig.parse(token)
        variant = "staged" if work.op == "train" else config.variant
        options = {"variant": variant if made["q"].is_cuda else "torch", "config": config}
    leaves = {name: x.detach().requires_grad_(work.op == "train") for name, x in given.items()}
    o, _ = gated_delta_rule(**leaves, **options, use_qk_l2norm_in_kernel=True, check_values=False)
    if work.op != "train":
        return {"o": o.detach()}
    grads = torch.autograd.grad(o, list(leaves.values()), do)
    return {"o": o.detach()} | {f"d{name}": grad for name, grad in zip(leaves, grads, strict=True)}


def spoil(device: torch.device) -> None:
    """Fill memory that is handed out next with NaN: what a kernel leaves unwritten must not look like an answer."""
    if device.type == "cuda":
        # Blocks that an earlier call gave back, and that still hold its right answers, would be handed out first.
        torch.cuda.empty_cache()
        torch.full((NAN_BYTES // 4,), math.nan, device=device)


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square error over that of the reference; WRONG where anything, of any head, is not finite."""
    if not bool(found.isfinite().all()):
        return WRONG
    part = found[:, :, : expected.shape[2]].double()
    error = float((part - expected).square().mean().sqrt() / expected.square().mean().sqrt())
    return error if math.isfinite(error) else WRONG


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


def _words(row: dict[str, Any]) -> str:
    if row["unable"]:
        return row["unable"]
    errors = ", ".join(f"{name} {error:.1e}" for name, error in row["worst"].items())
    return f"{errors}; {row['equal']} of {row['repeats']} have the same bits"


if __name__ == "__main__":
    sys.exit(main())
