"""Error budgets that need not be computed again: many configurations and properties ask for that of one problem."""

from __future__ import annotations

import contextlib
import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...results.digests.code import code_digest
from ...specs.budget import Budget
from ...specs.problem import Problem
from ...specs.rounding.contract import PrecisionContract
from .arrays import store_arrays, stored_arrays
from .contracts import budget_of


@lru_cache(maxsize=16)
def cached_budget(problem: Problem, contract: PrecisionContract) -> Budget:
    """`budget_of`, without the replicas, from the user's cache if it was computed before."""
    path = _folder() / f"{_digest(problem, contract)}.npz"
    kept = stored_arrays(path)
    if kept is not None:
        reference, sigma = ({name[2:]: x for name, x in kept.items() if name.startswith(kind)} for kind in ("r:", "s:"))
        return Budget(contract=contract, reference=reference, sigma=sigma, replicas={})
    made = budget_of(problem, contract)
    arrays = {f"r:{name}": x for name, x in made.reference.items()} | {f"s:{name}": x for name, x in made.sigma.items()}
    with contextlib.suppress(OSError):  # then it is computed again the next time
        store_arrays(path, arrays)
    return made


def _folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("deltaproof") / "budgets"


def _digest(problem: Problem, contract: PrecisionContract) -> str:
    words = (_code(), np.__version__, problem.token, repr(contract))
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _code() -> str:
    return code_digest("specs/budget.py", "specs/inputs/make.py")
