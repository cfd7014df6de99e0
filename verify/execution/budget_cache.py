"""Error budgets that need not be computed again: many configurations and properties ask for that of one problem."""

from __future__ import annotations

import contextlib
import hashlib
import io
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ...results.files.atomic import replace
from ...specs.budget import Budget
from ...specs.problem import Problem
from ...specs.rounding.contract import PrecisionContract
from .contracts import budget_of

_SPECS = Path(__file__).resolve().parents[2] / "specs"


@lru_cache(maxsize=16)
def cached_budget(problem: Problem, contract: PrecisionContract) -> Budget:
    """`budget_of`, without the replicas, from the user's cache if it was computed before."""
    path = _folder() / f"{_digest(problem, contract)}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            reference, sigma = (
                {name[2:]: kept[name] for name in kept.files if name.startswith(kind)} for kind in ("r:", "s:")
            )
        return Budget(contract=contract, reference=reference, sigma=sigma, replicas={})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    made = budget_of(problem, contract)
    buffer = io.BytesIO()
    arrays = {f"r:{name}": x for name, x in made.reference.items()} | {f"s:{name}": x for name, x in made.sigma.items()}
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    with contextlib.suppress(OSError):  # then it is computed again the next time
        replace(path, buffer.getvalue())
    return made


def _folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("deltaproof") / "budgets"


def _digest(problem: Problem, contract: PrecisionContract) -> str:
    words = (_sources(), np.__version__, problem.token, repr(contract))
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SPECS.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
