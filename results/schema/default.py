"""What is launched where nothing better is known."""

from __future__ import annotations

WIDE = 128


def safe_default(dtype: str, K: int) -> str:
    """The launch configuration that fits every GPU there is a profile of, and is tuned for nothing.

    dtype: fp32, bf16 or fp16. K: of one key head. A chunk's keys in fp32 and wider than 128 leave no room beside them in the
    64 KiB of shared memory of an MI300X, unless the chunk is short.
    """
    return "c32" if dtype == "fp32" and K > WIDE else "c64"


def inference_default(dtype: str, K: int) -> str:
    """`safe_default` of calls that need no gradient: of the configurations that fit every GPU, one that issues few instructions.

    In 16 bits and up to 128 channels a chunk of 32 has room to prefetch the next within 64 KiB of shared memory.
    """
    if dtype == "fp32" or K > WIDE:
        return safe_default(dtype, K)
    return "c32,variant=packed,scores=64x2x1,states=64x4x2"
