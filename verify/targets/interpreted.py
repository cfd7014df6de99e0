"""Run other people's kernels, flash-linear-attention's above all, through Triton's interpreter on a CPU.

`prepare` must run before anything of theirs is imported. It changes three things between a package and the interpreter, never a
kernel:

1. Autotuning needs a GPU to time on (`interpreter.tuned`). A tuned kernel runs with the first configuration that pruning leaves,
   and in call styles of its own as if it were timed, and with each of the others.
2. Their fp32 products are IEEE products (TRITON_F32_DEFAULT=ieee, a setting that users have, too). By default Triton takes TF32,
   whose rounding would hide errors of fp32; a product that asks for a precision by name keeps it.
3. FLA says on import, once per process, that there is no GPU.

Every session removes the other obstacles to such kernels in a stock interpreter: loop indices that are plain integers, functions
of the language kept under another name, products in bf16x3, and bf16 itself.
On a GPU only the second applies.
"""

from __future__ import annotations

import os
import warnings


def prepare() -> None:
    """Make packages with Triton kernels importable and runnable in this process. Safe to repeat."""
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    from ..interpreter.tuned import install

    warnings.filterwarnings("ignore", message=".*[Tt]riton is not supported on current platform.*")
    install()
