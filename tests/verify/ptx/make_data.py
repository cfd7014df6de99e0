"""Make the stored programs again: `make ptx-data`. Needs no GPU; Triton's version is that of constraints.txt."""

from __future__ import annotations

from triton.backends.compiler import GPUTarget

from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.kernels.launches.compile import compile_launch
from deltaproof.kernels.launches.record import Sizes, inference_launches
from deltaproof.specs.rule import RULES
from tests.verify.ptx.stored import write

PROGRAMS = {
    "scores_in_flight": "c64,variant=packed,scores=64x4x2,states=32x4x2",
    "scores_one_stage": "c64,variant=packed,scores=64x4x1,states=32x4x2",
}


def main() -> None:
    for name, config in PROGRAMS.items():
        launches = inference_launches(
            "packed", RULES["gdn"], "bf16", 128, 128, LaunchConfig.parse(config), normalise=False, raw=False,
            sizes=Sizes(tokens=8192, heads=1, sequences=2),
        )  # fmt: skip
        (scores,) = [launch for launch in launches if launch.name == "packed_scores_kernel"]
        binary = compile_launch(scores, GPUTarget("cuda", 90, 32))
        write(name, binary.assembly)
        print(name, binary.shared, "bytes of shared memory,", len(launches), "launches")


if __name__ == "__main__":
    main()
