"""Plant faults in the compiled programs of our kernels and count what is caught: results/bench/ptx.

python tests/bench/planted.py [--count 208] [--seed 0] [--dim 64]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
import triton

from deltaproof.kernels import gated_delta_rule
from deltaproof.specs.rule import RULES
from deltaproof.verify.ptx.faults import planting

OUT = Path(__file__).resolve().parents[2] / "results" / "bench" / "ptx"


Lengths = tuple[int, ...]
"""Tokens of each sequence of a call."""


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


def call(rule: str, size: int, lengths: Lengths, variant: str, seed: int) -> None:
    """Forward, and where the variant trains, backward. Of more than one sequence, a packed call."""
    inputs = [x.requires_grad_(variant == "staged") for x in problem(rule, size, sum(lengths), seed)]
    boundaries = torch.tensor([0, *accumulate(lengths)]) if len(lengths) > 1 else None
    o, state = gated_delta_rule(*inputs, cu_seqlens=boundaries, output_final_state=True, variant=variant)
    assert state is not None
    if variant == "staged":
        # Gradients of their own, or what is swapped is equal.
        drawn = torch.Generator().manual_seed(seed)
        torch.autograd.backward([o, state], [torch.randn(x.shape, generator=drawn).to(x.dtype) for x in (o, state)])


COMPARISON = "lt and le exchanged"
CALLS = [
    (arch, rule, variant) for arch in (90, 80) for rule in ("gdn2", "kda", "gdn") for variant in ("packed", "staged")
]
"""The packed and the trained op, of three rules, for two architectures."""
FIRST: Lengths = (150,)
OTHERS = ((128,), (129,), tuple(range(1, 34)))
"""Calls that may show what the first did not: other numbers, whole chunks, a last chunk of one token, and, where a packed call
launches the same program, a last chunk of any length."""
LAST_CHUNKS = tuple((128 + rows,) for rows in range(2, 32))
"""A comparison with the end of a sequence is one that matters at a single length."""


def launches(size: int, lengths: Lengths, arch: int, rule: str, variant: str) -> list[planting.PlantedLaunch]:
    """Every launch of a call."""
    name = f"sm_{arch}/{rule}/{variant}"
    return planting.subjects_of(lambda: call(rule, size, lengths, variant, seed=sum(lengths)), arch, name)


class Again:
    """The launches of other calls, made when they are first asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[tuple, dict[str, planting.PlantedLaunch]] = {}
        self.clean: dict[Lengths, dict] = defaultdict(dict)

    def of(self, subject: planting.PlantedLaunch, lengths: Lengths) -> planting.PlantedLaunch | None:
        """The launch with the same place and the same program; None where another program is launched."""
        arch, rule, variant, *_ = subject.name.split("/")
        asked = (lengths, int(arch.removeprefix("sm_")), rule, variant)
        if asked not in self._known:
            self._known[asked] = {each.name: each for each in launches(self._size, *asked)}
        found = self._known[asked].get(subject.name)
        same = found is not None and [x.text for x in found.program.kernel.statements] == [
            x.text for x in subject.program.kernel.statements
        ]
        return found if same else None

    def plant(
        self,
        planted: planting.Planted,
        kind: str,
        subject: planting.PlantedLaunch,
        index: int,
        seed: int,
        lengths: Lengths,
    ) -> planting.Planted:
        """The same fault in another call, if it is not caught yet and that call launches the same program."""
        other = None if planted.caught else self.of(subject, lengths)
        return planting.plant(kind, other, index, seed, self.clean[lengths]) if other else planted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=208)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    started = time.monotonic()
    subjects = [each for asked in CALLS for each in launches(options.dim, FIRST, *asked)]
    again, clean, found = Again(options.dim), {}, []
    OUT.mkdir(parents=True, exist_ok=True)
    for number, (kind, subject, index) in enumerate(planting.draw(subjects, options.count, options.seed)):
        planted = planting.plant(kind, subject, index, options.seed + number, clean)
        for lengths in OTHERS:
            planted = again.plant(planted, kind, subject, index, options.seed + number, lengths)
        if not planted.caught:
            planted = replace(planted, shown=planting.shown(kind, subject, index, options.seed + number))
        for lengths in LAST_CHUNKS if kind == COMPARISON and not planted.shown else ():
            planted = again.plant(planted, kind, subject, index, options.seed + number, lengths)
        found.append(planted)
        print(number, kind, subject.name, "caught" if planted.caught else "survived", flush=True)
        wrong = {name: sorted(faults) for name, (faults, *_) in clean.items() if faults}
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
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    survived = [each for each in document["planted"] if not each["caught"]]
    for each in document["planted"]:
        row = rows[each["kind"]]
        row[0] += 1
        row[1] += bool(each["rules"])
        row[2] += bool(each["numbers"] and not each["rules"])
        row[3] += bool(not each["caught"] and each["shown"])
        row[4] += not (each["caught"] or each["shown"])
    total = [sum(row[i] for row in rows.values()) for i in range(5)]
    lines = [
        "# Faults planted in compiled programs",
        "",
        f"{document['count']} faults in {document['launches']} launches of our kernels (Triton {document['triton']}, sm_90 "
        f"and sm_80, forward and backward), each run under {len(planting.SCHEDULES)} schedules. A fault that changes no bit "
        "and breaks no rule under any schedule counts as equivalent only if more than equal bits shows it: the program text, "
        "for all paths; or, for a statement that only orders others, a run in which no byte and no register needs the order; "
        "or a run in which the swapped values are equal. It is not known whether the others are equivalent or missed.",
        "",
        "| kind | planted | a rule fired | only numbers differ | equivalent | not known |",
        "|---|---|---|---|---|---|",
        *(f"| {kind} | {' | '.join(map(str, row))} |" for kind, row in rows.items()),
        f"| all | {' | '.join(map(str, total))} |",
        "",
        f"Caught: {total[1] + total[2]} of {total[0]}; {(total[1] + total[2]) / (total[0] - total[3]):.0%} of the "
        f"{total[0] - total[3]} that are not equivalent. Alarms without a fault: {len(document['alarms_without_fault'])}.",
    ]
    for title, shown in (("Equivalent", True), ("Not known", False)):
        lines += ["", f"{title}:", ""]
        lines += [
            f"- {each['kind']}, {each['subject']}: `{each['before'][:90]}`" + (f": {each['shown']}" if shown else "")
            for each in survived
            if bool(each["shown"]) == shown
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
