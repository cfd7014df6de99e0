"""The interpreter flag is read when kernels are decorated, so it is set before any test module imports triton."""

import os

os.environ["TRITON_INTERPRET"] = "1"
