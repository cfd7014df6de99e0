"""What an engine is: somebody's operators, and how their faults are planted."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..mutant import Mutant, Source

if TYPE_CHECKING:
    from ...cases.replay import Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Enumerates the faults of a function, and plants one.

    version: of the package whose operators these are. Like the next two, raises ValueError where that is not installed.
    operators: the names of all.
    mutants_of: every fault of every operator, in a fixed order. Edits that change no text are left out.
    plant: the tree of the mutant's function with the fault in it. Raises ValueError where the source is another by now.
    likely: whether a test is of the kind that shows such a fault; these are asked first.
    """

    name: str
    version: Callable[[], str] = field(repr=False)
    operators: Callable[[], Sequence[str]] = field(repr=False)
    mutants_of: Callable[[Source], Iterator[Mutant]] = field(repr=False)
    plant: Callable[[Mutant, ast.Module], ast.Module] = field(repr=False)
    likely: Callable[[Mutant, Replay], bool] = field(default=lambda mutant, test: False, repr=False)
