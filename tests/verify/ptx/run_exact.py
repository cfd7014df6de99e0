"""In a process of its own, which compiles: a served program, and the same with an fma that lost its addend, by `error` and by
`equality`. Prints the four outcomes as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from deltaproof.kernels import KERNELS
from deltaproof.results.files.calibration import tau
from deltaproof.verify.cases.replay import Replay
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import equality, error
from deltaproof.verify.ptx import exact, launch
from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.assembly.program import Program
from deltaproof.verify.ptx.faults.planting import KINDS

CASE = "equality@chunk_fwd/packed[c32,variant=packed,scores=32x1x1,states=16x4x2]@gdn:bf16:b1:t86:h1x1:k128:v128:ordinary:s0"
WITHOUT_ADDEND = KINDS["an fma without its addend"]


def planted(program: Program) -> Program:
    """The first fma loses its addend: of the scores' inverse, in one thread."""
    statements = program.kernel.statements
    for place, s in enumerate(statements):
        if after := WITHOUT_ADDEND(s, Random(0)):
            changed = [*statements[:place], after, *statements[place + 1 :]]
            return assemble(replace(program.kernel, statements=changed), program.shared)
    return program


def main() -> None:
    case = Replay.parse(CASE).case
    harness = Harness(kernel=KERNELS["chunk_fwd/packed"], kernels=KERNELS, device="sm_90", tau=tau())
    judge = lambda: [check(case, harness) for check in (error.check, equality.check)]  # noqa: E731
    found = judge()
    for module, name in ((launch, "_assembled"), (exact, "embedded")):
        made = getattr(module, name)
        setattr(module, name, lambda ptx, shared, made=made: planted(made(ptx, shared)))
    found += judge()
    print(json.dumps([[outcome.status, outcome.message] for outcome in found]))


if __name__ == "__main__":
    main()
