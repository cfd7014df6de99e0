"""The variants of the op that launch Triton kernels."""

from __future__ import annotations

from dataclasses import dataclass

from . import library
from .operator import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedVariant:
    """op: in tables. operator: of torch.library.

    prepares_inputs: its kernels normalise and activate their inputs; the others are given the results of stage 0.
    reads_chunk_tables: it reads where the chunks of packed sequences lie; the others find them by arithmetic.
    """

    op: str
    operator: Operator
    prepares_inputs: bool = False
    reads_chunk_tables: bool = False


LAUNCHED = {
    "staged": LaunchedVariant(op="chunk_train", operator=library.chunk_train, reads_chunk_tables=True),
    "split": LaunchedVariant(op="chunk_fwd", operator=library.chunk_fwd, reads_chunk_tables=True),
    "tokens": LaunchedVariant(op="recurrent", operator=library.recurrent),
    "fused": LaunchedVariant(op="chunk_fwd", operator=library.chunk_fused, prepares_inputs=True),
    "packed": LaunchedVariant(op="chunk_fwd", operator=library.chunk_packed, prepares_inputs=True),
}
