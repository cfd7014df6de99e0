"""Precision contracts: the declaration of an implementation about its rounding, site by site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..arithmetic.numbers import Site
from ..problem import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """Rounding to nearest: the error is at most `unit` * |x|, or half a `quantum` where that is more.

    unit: the unit roundoff, 2^-p for p significant bits. quantum: the distance of the numbers next to zero. largest: the largest
    number.
    apart: the decay between two tokens is the difference of sums from the beginning of the chunk, each of them rounded.
    """

    unit: float
    quantum: float
    largest: float = np.inf
    apart: bool = False

    def amplitude(self, x: np.ndarray) -> np.ndarray:
        """The largest error of rounding `x`, element by element."""
        return np.maximum(np.abs(x) * self.unit, self.quantum / 2)


EXACT = Rounding(unit=0.0, quantum=0.0)
# Hardware may flush fp32 and bf16 subnormals: their quantum is the smallest normal number. fp16 keeps its subnormals.
FP32 = Rounding(unit=2.0**-24, quantum=2.0**-126, largest=(2 - 2.0**-23) * 2.0**127)
BF16 = Rounding(unit=2.0**-8, quantum=2.0**-126, largest=(2 - 2.0**-7) * 2.0**127)
FP16 = Rounding(unit=2.0**-11, quantum=2.0**-24, largest=65504.0)

FP32_SUM = Rounding(unit=4 * FP32.unit, quantum=FP32.quantum)
"""An fp32 sum of a chunk's log-decays. 64 running sums of one sign, each rounded, are off by sqrt(64 / 3) = 4.6 times the error
of one rounding of the total."""

DIFFERENCE_OF_SUMS = Rounding(unit=FP32_SUM.unit, quantum=FP32.quantum, apart=True)
"""The same of a chunkwise function that takes the decay between two tokens as a difference of running sums: its error is that of
the sums, however little lies between the two."""

FORGETS_ALL = 104.0
"""exp(-104) is 0 in fp32: who takes differences of sums may take this for any stronger decay, and does not lose by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionContract:
    """The rounding that an implementation declares, site by site (`numbers.Site` explains the sites).

    chunk: tokens per chunk of a chunkwise implementation, whose intermediates are those of `specs.oracle.chunkwise`; None for
    one that goes token by token, as `specs.oracle.recurrence` does.
    sums_decay_gradient: dg is allowed the error of a difference of sums (`specs.rounding.decay_gradient`); never for our kernels.
    """

    name: str
    chunk: int | None
    input: Rounding
    operand: Rounding
    product: Rounding
    state: Rounding
    exponent: Rounding
    gate: Rounding
    output: Rounding
    sums_decay_gradient: bool = False

    def at(self, site: Site) -> Rounding:
        return getattr(self, site)


def _chunkwise(name: DType, dtype: Rounding) -> PrecisionContract:
    # Operands are the inputs of the contractions of `specs.oracle.chunkwise`: decayed queries, erase keys and keys, Aqk, A, X and
    # R. A kernel may keep others of the same contractions instead, if it rounds no more often on the way from inputs to outputs:
    # `chunk_fwd/packed` rounds Aqk A and A^T Kt (`specs.oracle.stages.operands`), and has no R to round. Its budget is this one.
    # In groups of chunks it rounds a group's result from the identity where it would round the state, once per chunk: as often on
    # the way as one walk; its products with the states between groups are of fp32 operands. That budget is this one, too. Inputs
    # arrive rounded, so nothing is lost in loading them. Products of bf16 or fp16 operands are exact and summed in fp32; fp32
    # means ieee products. Decays, their gradients and the state are fp32 throughout.
    return PrecisionContract(
        name=name,
        chunk=64,
        input=EXACT,
        operand=dtype,
        product=FP32,
        state=FP32,
        exponent=FP32_SUM,
        gate=FP32,
        output=dtype,
    )


CONTRACTS: Mapping[DType, PrecisionContract] = {
    "fp32": _chunkwise("fp32", FP32),
    "bf16": _chunkwise("bf16", BF16),
    "fp16": _chunkwise("fp16", FP16),
}
"""The contract of a chunkwise kernel, by dtype."""

TOKEN_CONTRACTS: Mapping[DType, PrecisionContract] = {
    dtype: replace(contract, name=f"{contract.name} token", chunk=None, exponent=FP32)
    for dtype, contract in CONTRACTS.items()
}
"""The contract of a kernel that goes token by token, by dtype: stricter where keys are correlated, and where decay is
strong in fp16."""
