"""Plant faults in the compiled programs of our kernels and count what is caught: results/bench/ptx.

python tests/bench/planted.py [--count 200] [--seed 0] [--dim 64]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
import triton

from deltaproof.kernels import gated_delta_rule
from deltaproof.specs.rule import RULES
from deltaproof.verify.ptx import planting

OUT = Path(__file__).resolve().parents[2] / "results" / "bench" / "ptx"


def problem(rule: str, size: int, tokens: int, seed: int) -> list[torch.Tensor]:
    """q, k, v, g, b and w of one head, as a model has them."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(1, tokens, 1, *shape, generator=generator)

    q, k = (F.normalize(random(size), dim=-1).bfloat16() for _ in range(2))
    about = RULES[rule]
    g = F.logsigmoid(random(*([size] if about.decay == "channel" else [])))
    b = random(*([size] if about.erase == "channel" else [])).sigmoid().bfloat16()
    found = [q, k, random(size).bfloat16(), g, b]
    return [*found, random(size).sigmoid().bfloat16()] if about.write == "channel" else found


def call(rule: str, size: int, tokens: int, variant: str, seed: int) -> None:
    """Forward, and where the variant trains, backward."""
    inputs = [x.requires_grad_(variant == "staged") for x in problem(rule, size, tokens, seed)]
    o, state = gated_delta_rule(*inputs, output_final_state=True, variant=variant)
    assert state is not None
    if variant == "staged":
        (o.float().sum() + state.sum()).backward()


def launches(size: int, tokens: int, seed: int) -> list[planting.Subject]:
    """Every launch of the packed and the trained op, of three rules, for two architectures."""
    return [
        subject
        for arch in (90, 80)
        for rule in ("gdn2", "kda", "gdn")
        for variant in ("packed", "staged")
        for subject in planting.subjects_of(
            lambda r=rule, v=variant: call(r, size, tokens, v, seed), arch, f"sm_{arch}/{rule}/{variant}"
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    started = time.monotonic()
    subjects, twins = launches(options.dim, 150, 0), {each.name: each for each in launches(options.dim, 150, 1)}
    clean: dict = {}
    clean_twin: dict = {}
    found = []
    for number, (kind, subject, index) in enumerate(planting.draw(subjects, options.count, options.seed)):
        planted = planting.plant(kind, subject, index, options.seed + number, clean)
        if not planted.caught:
            # Other numbers may show what these did not.
            planted = planting.plant(kind, twins[subject.name], index, options.seed + number, clean_twin)
        found.append(planted)
        print(number, kind, subject.name, "caught" if planted.caught else "survived", flush=True)
    wrong = {name: sorted(faults) for name, (faults, *_) in clean.items() if faults}
    OUT.mkdir(parents=True, exist_ok=True)
    document = {
        "triton": triton.__version__, "count": len(found), "seed": options.seed, "dim": options.dim,
        "launches": len(subjects), "seconds": round(time.monotonic() - started),
        "alarms_without_fault": [[*name, faults] for name, faults in wrong.items()],
        "planted": [asdict(each) | {"caught": each.caught} for each in found],
    }  # fmt: skip
    (OUT / "planted.json").write_text(json.dumps(document, indent=1) + "\n")
    (OUT / "planted.md").write_text(table(document))
    print(table(document))


def table(document: dict) -> str:
    """Markdown: by kind, then every survivor."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for each in document["planted"]:
        row = rows[each["kind"]]
        row[0] += 1
        row[1] += bool(each["rules"])
        row[2] += bool(each["numbers"] and not each["rules"])
        row[3] += not each["caught"]
    total = [sum(row[i] for row in rows.values()) for i in range(4)]
    lines = [
        "# Faults planted in compiled programs",
        "",
        f"{document['count']} faults in {document['launches']} launches of our kernels (Triton {document['triton']}, sm_90 and "
        f"sm_80, forward and backward), each run under {len(planting.SCHEDULES)} schedules. A fault that changes no bit under "
        "any schedule for either of two inputs, and breaks no rule on any path that was run, is counted as equivalent.",
        "",
        "| kind | planted | a rule fired | only numbers differ | equivalent |",
        "|---|---|---|---|---|",
        *(f"| {kind} | {row[0]} | {row[1]} | {row[2]} | {row[3]} |" for kind, row in rows.items()),
        f"| all | {total[0]} | {total[1]} | {total[2]} | {total[3]} |",
        "",
        f"Caught: {total[1] + total[2]} of {total[0]}. Alarms without a fault: {len(document['alarms_without_fault'])}.",
        "",
        "What survived:",
        "",
    ]
    lines += [
        f"- {each['kind']}, {each['subject']}: `{each['before'][:90]}`"
        for each in document["planted"]
        if not each["caught"]
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
