"""The configuration that is launched where nothing better is known."""

from __future__ import annotations


def default_config(op: str, dtype: str, K: int) -> str:
    """The launch configuration that fits every GPU there is a profile of, and is tuned for nothing.

    op: chunk_fwd, chunk_train or recurrent. dtype: fp32, bf16 or fp16. K: of one key head. A chunk's keys in fp32 and wider than
    128 leave no room beside them in the 64 KiB of shared memory of an MI300X, unless the chunk is short. In 16 bits a backward
    over chunks of 64 is one of those that ptxas 12.8 assembles wrongly for sm_90, and one configuration serves both directions.
    In 16 bits calls have what issues the fewest instructions. `autotune defaults` judges what stands here.
    """
    # Whole as it stands, since an exported table holds this function's text.
    wide = K > 128
    if dtype == "fp32" or wide:
        return "c32" if wide else "c64"
    if op == "chunk_fwd":
        return "c32,variant=packed,scores=64x2x1,states=64x4x2"
    if op == "chunk_train":
        return "c32,scores=64x2x1,states=32x4x2,output=64x2x1,score_grads=32x2x1,state_grads=32x4x1,input_grads=32x2x1"
    return "c32"
