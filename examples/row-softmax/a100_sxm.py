"""Configurations of the autotuned kernels of row_softmax:calls on a100-sxm, written by `autotune export --to python`.

Compiled with Triton 3.7.1, ranked by resources, and run as compiled on a CPU where their line does not say otherwise;
nothing was timed.
"""

GPU = "a100-sxm"
TRITON = "3.7.1"
SOURCES = {
    "row_softmax_kernel": "b10506dec980831df503709cbe8e47a28e900b3a0488b2fb456da49a7f1af93b",
}
"""Digest of each kernel that the configurations are for (`cache_key` of a Triton function)."""

# kernel: {key: arguments of triton.Config}; a key is what Triton's autotuner makes of a call
CONFIGS = {
    "row_softmax_kernel": {
        (1000, "torch.bfloat16", "torch.bfloat16"): {"kwargs": {}, "num_warps": 8, "num_stages": 3, "num_ctas": 1},
        (8192, "torch.bfloat16", "torch.bfloat16"): {"kwargs": {}, "num_warps": 16, "num_stages": 3, "num_ctas": 1},
    },
}


def lookup(kernel, key):
    """The arguments of `triton.Config` for a kernel's name and an autotuner's key; None where there is no entry."""
    return CONFIGS.get(kernel, {}).get(tuple(key))


def install(*kernels):
    """Have these autotuned kernels launch what is written here, unbenchmarked; other calls are tuned as ever.

    Returns how many configurations were taken. Kernels whose source is another get none, and so does Triton's interpreter; under
    another version of Triton, whose programs are others, none is taken.
    """
    from triton import Config, __version__

    if __version__ != TRITON:
        return 0
    taken = 0
    for kernel in kernels:
        name, function = kernel.base_fn.__name__, kernel.fn
        while hasattr(function, "fn") and not hasattr(function, "cache_key"):
            function = function.fn
        if getattr(function, "cache_key", None) == SOURCES.get(name, ""):
            kernel.cache.update({key: Config(**config) for key, config in CONFIGS[name].items()})
            taken += len(CONFIGS[name])
    return taken
