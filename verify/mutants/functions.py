"""Functions that no fault can be found in: what the score is silent about."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

from .judge import MutantResult
from .mutant import Mutant, Source

_NO_FINDING = ("equivalent", "excluded")


def out_of_reach(
    sources: Mapping[str, Source], every: Iterable[Mutant], results: Sequence[MutantResult], written: Iterable[str] = ()
) -> dict[str, list[str]]:
    """The device functions ("module:name"), by reason, of which no fault could be killed by any test.

    sources: those that run. every: all faults of them. written: the functions that there are. Of a function whose faults all
    change nothing or only crash, every one must have been drawn and judged.
    """
    status = {result.id: result.status for result in results}
    faults: dict[str, list[Mutant]] = {name: [] for name in sources}
    for mutant in every:
        faults[mutant.function].append(mutant)
    return {
        "no call that faults are taken from runs it": sorted(set(written) - set(sources)),
        "no operator finds a place": [name for name, own in faults.items() if not own],
        "every fault changes nothing or only crashes": [
            name for name, own in faults.items() if own and all(status.get(x.id) in _NO_FINDING for x in own)
        ],
    }


def own_functions() -> list[str]:
    """Every device function of our own kernels."""
    from ...kernels import stages

    return sorted(functions_of(stages))


def functions_of(package: ModuleType) -> Iterable[str]:
    """Every device function that is written in a package."""
    from triton.runtime.interpreter import InterpretedFunction

    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, InterpretedFunction) and value.fn.__module__ == module.name:
                yield f"{module.name}:{value.fn.__qualname__}"


def sentence(found: Mapping[str, Sequence[str]], functions: int) -> str:
    """The number in one line, with the names."""
    names = [f"{name.rpartition(':')[2]} ({reason})" for reason, each in found.items() for name in each]
    told = f": {', '.join(names)}" if names else ""
    return f"{len(names)} of {functions} functions have no fault that could be killed{told}"
