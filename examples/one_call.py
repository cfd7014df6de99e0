"""One forward and backward call, with its error against fp64.

On a GPU the Triton kernels run compiled; elsewhere in Triton's interpreter, which is slow but computes the same.
"""

import os

import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are imported

from deltaproof.kernels import gated_delta_rule

torch.manual_seed(0)
B, T, H, K, V = 1, 128, 2, 64, 64
device = "cuda" if torch.cuda.is_available() else "cpu"
q, k = (F.normalize(torch.randn(B, T, H, K), dim=-1) for _ in range(2))
v = torch.randn(B, T, H, V)
g = F.logsigmoid(torch.randn(B, T, H, K))  # log decay, per key channel
g[:, 40] = -float("inf")  # one token forgets everything: a legal gate
b = torch.rand(B, T, H, K)  # erase gate, per key channel
w = torch.rand(B, T, H, V)  # write gate, per value channel


def outputs_and_gradients(dtype: torch.dtype, variant: str) -> dict[str, torch.Tensor]:
    inputs = [x.to(device, dtype).requires_grad_() for x in (q, k, v, g, b, w)]
    o, state = gated_delta_rule(*inputs, output_final_state=True, variant=variant)
    assert state is not None
    grads = torch.autograd.grad(o.square().sum() + state.square().sum(), inputs)
    return dict(zip(("o", "state", "dq", "dk", "dv", "dg", "db", "dw"), (o, state, *grads), strict=True))


found = outputs_and_gradients(torch.float32, "staged")
exact = outputs_and_gradients(torch.float64, "torch")
for name, value in exact.items():
    error = (found[name].double() - value).norm() / value.norm()
    print(f"{name:6s} {tuple(value.shape)!s:18s} relative error {error:.1e}")
