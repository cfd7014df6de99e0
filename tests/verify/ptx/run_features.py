"""Compile features for an architecture and run them; one line of JSON each. `python -m tests.verify.ptx.run_features 90`"""

from __future__ import annotations

import json
import sys

import torch

from deltaproof.verify.ptx.launch import judge_call

from .features import FEATURES, NEEDS


def main(arch: int, names: list[str]) -> None:
    for name in names or [name for name in FEATURES if NEEDS[name] <= arch]:
        pairs = []
        verdicts = judge_call(lambda call=FEATURES[name], pairs=pairs: pairs.extend(call()), arch)
        wrong = []
        for got, expected, tolerance in pairs:
            a, b = got.double(), expected.double()
            if not torch.equal(a.isfinite(), b.isfinite()):
                wrong.append("finite values are not where they should be")
            elif (error := float((a - b).norm() / b.norm().clamp_min(1e-30))) > tolerance:
                wrong.append(f"error {error:.3g} above {tolerance:.3g}")
        print(
            json.dumps({
                "feature": name, "wrong": wrong, "faults": [str(f) for v in verdicts for f in v.faults],
                "notes": sorted({f.rule for v in verdicts for f in v.notes}), "seconds": sum(v.seconds for v in verdicts),
            }),
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
