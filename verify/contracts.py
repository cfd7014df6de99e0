"""Which precision contract a kernel is held to, and the budget that follows from it."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from ..specs.budget import Budget, budget
from ..specs.contract import CONTRACTS, TOKEN_CONTRACTS, PrecisionContract, Rounding
from ..specs.inputs import generate
from ..specs.problem import Problem
from .case import Case

SITES = tuple(
    field.name for field in fields(PrecisionContract) if isinstance(getattr(CONTRACTS["fp32"], field.name), Rounding)
)
"""The rounding sites of a contract."""


def contract_of(kernel: Any, case: Case) -> PrecisionContract:
    """By dtype; a chunkwise kernel answers for the intermediates of its chunk size, a token-by-token one for none."""
    dtype = case.problem.dtype
    if kernel.op == "recurrent":
        return TOKEN_CONTRACTS[dtype]
    contract = CONTRACTS[dtype]
    return contract if case.config is None else replace(contract, chunk=case.config.chunk_size)


@lru_cache(maxsize=4)
def budget_of(problem: Problem, contract: PrecisionContract) -> Budget:
    """The budget of a problem's own inputs; kept, since properties and shrinking ask again."""
    return budget(problem, generate(problem), contract)
