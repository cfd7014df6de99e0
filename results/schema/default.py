"""What is launched where nothing better is known."""

from __future__ import annotations

WIDE = 128


def default_config(op: str, dtype: str, K: int) -> str:
    """The launch configuration that fits every GPU there is a profile of, and is tuned for nothing.

    op: chunk_fwd, chunk_train or recurrent. dtype: fp32, bf16 or fp16. K: of one key head. A chunk's keys in fp32 and wider than
    128 leave no room beside them in the 64 KiB of shared memory of an MI300X, unless the chunk is short. Inference in 16 bits
    has the variant that issues the fewest instructions; up to 128 channels a chunk of 32 has room to prefetch the next.
    """
    if dtype == "fp32":
        return "c32" if K > WIDE else "c64"
    return "c32,variant=packed,scores=64x2x1,states=64x4x2" if op == "chunk_fwd" and K <= WIDE else "c64"
