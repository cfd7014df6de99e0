"""ptxas 12.8.93 drops the definition of a descriptor (our `state_grads` and `states`, chunks of 64, sm_90).

    verify launch docs/findings/ptxas_descriptor.py:call

- Triton 3.6.0 and 3.7.1, which bring ptxas 12.8.93: register-unwritten. `or.b64` and `add.s64` make the descriptors of four
  products from one base; in the machine code the base is gone, and one descriptor is made from whatever two registers hold.
  Here it is the upper half of a pointer: an H200 read shared memory at 0x3f900, and compute-sanitizer names the product.
- ptxas 13.0.88, or 12.8.93 with -O1: nothing.

The PTX keeps every rule, so that no run of it can show this. It is kept as tests/verify/ptx/data/descriptor_dropped.ptx.xz.
"""

import torch

from deltaproof.kernels import LaunchConfig, gated_delta_rule


def call() -> None:
    generator = torch.Generator().manual_seed(0)
    T, H, D = 128, 2, 128

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(1, T, H, *shape, generator=generator)

    given = {name: random(D).bfloat16().requires_grad_() for name in ("q", "k", "v")}
    given |= {name: random(D).sigmoid().bfloat16().requires_grad_() for name in ("b", "w")}
    given["g"] = (-random(D).sigmoid()).requires_grad_()
    config = LaunchConfig.parse("c64")
    o, _ = gated_delta_rule(**given, variant="staged", config=config, check_values=False)
    torch.autograd.grad(o, list(given.values()), random(D).bfloat16())
