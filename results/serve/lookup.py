"""`lookup`: one dict get once a call has been seen, and nothing but the standard library before that."""

from __future__ import annotations

# Written out, and not imported from typing, which costs more than all the rest of the import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, Literal

    from .choose import Answer

_MOST_ANSWERS = 1 << 16
"""Calls remembered; training on ever new lengths must not fill the memory."""

_ANSWERS: dict[tuple[Any, ...], Answer] = {}


def lookup(
    op: str,
    *,
    rule: str,
    dtype: str,
    K: int,
    V: int,
    tokens: int | None,
    heads: int | None,
    gpu: str,
    varlen: bool = False,
    state: bool = False,
    l2norm: bool = False,
    gate_in_kernel: bool = False,
    min_tier: Literal["A", "B", "C"] = "C",
    min_gate: Literal["interpreter", "compiled", "device"] = "compiled",
    triton: str | None = None,
    driver: str | None = None,
    kernel_digest: str | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> Answer:
    """The launch configuration for a call, and how it was found (`Answer`).

    op: chunk_fwd, chunk_train or recurrent.
    rule: gdn2, kda, gdn, ...
    dtype: fp32, bf16 or fp16.
    K, V: head dimensions.
    tokens, heads: tokens of the longest sequence; sequences times value heads. Both None: the answer ignores batch and length.
    gpu: a slug ("h100-sxm"), a name that a device gives itself, or an architecture ("sm_90"); the safe default for any other.
    varlen, state: packed sequences; with an initial state.
    l2norm, gate_in_kernel: q and k are normalised, the decay gate is activated, in the op (options "l2norm" and "gate" of a key).
    min_tier: A, B or C; C was only compiled for this GPU, and never timed on one.
    min_gate: the check that an entry of tier C must have passed (not a gate of a model): "compiled", its programs ran without a
    fault on a CPU, as the caller's Triton compiles them; "device"; or "interpreter", which knows nothing of the compiler.
    triton: the version that will compile. None: the one installed here, or the entry's own where none is.
    driver: the version in use, or None where it does not matter. Entries timed under another of either count as tier B.
    kernel_digest: of the kernels that will be launched, if these are not the ones of this package.
    tables: a folder or file to look into first; then DELTAPROOF_TABLES, the user's tables and those that ship.

    Environment and files are read when they are first needed; `forget` makes them be read again.

    Raises ValueError for an argument that makes no sense, and lists the known names; TableError (a ValueError) for a
    table, or a file of GPUs, that is damaged.
    """
    # Arguments that are seldom given make the key longer, and with it a hit slower.
    query: tuple[Any, ...] = (op, rule, dtype, K, V, tokens, heads, gpu, min_tier, min_gate, triton, driver)
    plain = varlen is False and state is False and l2norm is False and gate_in_kernel is False
    if not plain or kernel_digest is not None or tables is not None:
        query = (*query, varlen, state, l2norm, gate_in_kernel, kernel_digest, tables)
    try:
        return _ANSWERS[query]
    except (KeyError, TypeError):  # TypeError: an argument that cannot be hashed; answer_query names it
        from .query import answer_query

        answer = answer_query(*query)
    if len(_ANSWERS) >= _MOST_ANSWERS:
        _ANSWERS.clear()
    _ANSWERS[query] = answer
    return answer


def forget() -> None:
    """Forget every answer and table, so that the environment and the files are read again."""
    from .query import forget_files

    _ANSWERS.clear()
    forget_files()
