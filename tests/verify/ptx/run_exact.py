"""In a process of its own, which compiles: a program, and the same with two registers of a product swapped, by `error` and by
`equality`. Prints what became of each, a JSON list."""

from __future__ import annotations

import json
from dataclasses import replace

from deltaproof.kernels import KERNELS
from deltaproof.results.files.calibration import tau
from deltaproof.verify.cases.replay import Replay
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import equality, error
from deltaproof.verify.ptx import exact, launch
from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.assembly.program import Program

CASE = "equality@chunk_fwd/packed[c32,variant=packed,scores=32x1x1,states=16x4x2]@gdn:bf16:b1:t86:h1x1:k128:v128:ordinary:s0"


def planted(program: Program) -> Program:
    """The first product of tensor cores gets two registers of A in the wrong order."""
    statements = program.kernel.statements
    place = next((i for i, s in enumerate(statements) if s.opcode.startswith("mma.")), None)
    if place is None or program.kernel.name != "packed_scores_kernel":
        return program
    s = statements[place]
    groups = list(s.operands)
    first, second, *rest = groups[1].strip("{} ").split(",")
    groups[1] = "{" + ",".join((second, first, *rest)) + "}"
    changed = [*statements[:place], replace(s, operands=tuple(groups)), *statements[place + 1 :]]
    return assemble(replace(program.kernel, statements=changed), program.shared)


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
