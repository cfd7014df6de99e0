"""Which precision contract a kernel is held to, and the budget that follows from it."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ...specs.budget import Budget, budget
from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ...specs.rounding.contract import CONTRACTS, TOKEN_CONTRACTS, PrecisionContract, Rounding
from ..cases.replay import Case

if TYPE_CHECKING:
    from ...kernels.registry import Kernel

SITES = tuple(
    field.name for field in fields(PrecisionContract) if isinstance(getattr(CONTRACTS["fp32"], field.name), Rounding)
)
"""The rounding sites of a contract."""


def contract_of(kernel: Kernel, case: Case) -> PrecisionContract:
    """The contract by dtype; a chunkwise kernel answers for the intermediates of its chunk size, a token-by-token one for none.

    Somebody else's kernel may declare `sums_decay_gradient`, an `fp32_operand` that is rounded, and the precision that its sums
    of log-decays lose (`exponent`).
    """
    dtype = case.problem.dtype
    contract = TOKEN_CONTRACTS[dtype] if kernel.op == "recurrent" else CONTRACTS[dtype]
    if kernel.op != "recurrent" and case.config is not None:
        contract = replace(contract, chunk=case.config.chunk_size)
    if kernel.exponent is not None:
        contract = replace(contract, exponent=kernel.exponent)
    if kernel.fp32_operand is not None and dtype == "fp32":
        contract = replace(contract, operand=kernel.fp32_operand)
    return replace(contract, sums_decay_gradient=True) if kernel.sums_decay_gradient else contract


def promises_ieee_products(kernel: Kernel, case: Case) -> bool:
    """Whether fp32 operands of products must not be rounded: a kernel promises it that does not declare otherwise, where the
    solver is not told otherwise."""
    return kernel.fp32_operand is None and (case.config is None or case.config.solver == "ieee")


def is_ours(kernel: Kernel) -> bool:
    """Whether a kernel makes our op's promises beyond the rule: fp64 without Triton, and a refusal of bad calls in one line that
    names the argument. Somebody else's function makes neither promise, unless it takes `check_values`."""
    return not kernel.foreign or bool(kernel.trusting)


@lru_cache(maxsize=16)
def budget_of(problem: Problem, contract: PrecisionContract) -> Budget:
    """The budget of a problem's own inputs; kept, since properties and shrinking ask again."""
    return budget(problem, generate(problem), contract)
