"""What is launched where nothing better is known."""

from __future__ import annotations

WIDE = 128


def default_config(op: str, dtype: str, K: int) -> str:
    """The launch configuration that fits every GPU there is a profile of, and is tuned for nothing.

    op: chunk_fwd, chunk_train or recurrent. dtype: fp32, bf16 or fp16. K: of one key head. A chunk's keys in fp32 and wider than
    128 leave no room beside them in the 64 KiB of shared memory of an MI300X, unless the chunk is short. In 16 bits a backward
    over chunks of 64 is one of those that ptxas 12.8 assembles wrongly for sm_90, and one configuration serves both directions.
    Inference in 16 bits has the variant that issues the fewest instructions. `autotune defaults` judges what stands here.
    """
    if op == "chunk_fwd" and dtype != "fp32" and K <= WIDE:
        return "c32,variant=packed,scores=64x2x1,states=64x4x2"
    return "c64" if dtype == "fp32" and K <= WIDE else "c32"
