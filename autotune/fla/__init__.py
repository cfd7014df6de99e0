"""`autotune --target fla`: configurations for the kernels of flash-linear-attention, which then need not benchmark them."""
